// The answers of a loaded model to the lines of its parent.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "slice.hpp"

// A loaded model and the plans that it has mapped, each once.
template <class Session>
class Conversation {
  public:
    Conversation(std::vector<Session> sessions, std::size_t dim, std::int64_t pad_id, Fault fault)
        : sessions_{.each = std::move(sessions), .padders = {}, .dim = dim, .fault = fault} {
        sessions_.padders.assign(sessions_.each.size(), Padder{pad_id});
    }

    // The answer to one line. Whatever goes wrong becomes `failed N reason`, and the worker stays usable.
    std::string answer(const std::string& line) {
        std::size_t rows = 0;
        try {
            if (line.starts_with("loop ")) return "looped " + std::to_string(baseline_loop(line));
            const Serve order = parse_serve(line);
            const SliceCounts counts = sessions_.serve(find_plan(order.plan, order.first, order.count), order);
            rows = counts.rows;
            sessions_.recorder.write(order.out, order.first, rows, sessions_.dim, counts.batches);
            return "served " + std::to_string(rows);
        } catch (const SliceFailed& failed) {
            return "failed " + std::to_string(failed.rows) + " " + failed.what();
        } catch (const std::exception& error) {
            return "failed " + std::to_string(rows) + " " + one_line(error.what());
        }
    }

  private:
    // The plan of this path, mapped once and kept; it has the rows that are asked for.
    const PlanFile& find_plan(const std::string& path, std::size_t first, std::size_t count) {
        auto known = plans_.find(path);
        if (known == plans_.end()) known = plans_.emplace(path, open_plan_file(path)).first;
        const PlanFile& plan = known->second;
        if (first > plan.rows.size() || count > plan.rows.size() - first) {
            throw std::runtime_error(path + " has " + std::to_string(plan.rows.size()) + " rows, not as many as asked for");
        }
        return plan;
    }

    // `loop PLAN FIRST COUNT`: the ns that the framework takes for these rows one by one, called in a plain loop that records nothing.
    std::int64_t baseline_loop(const std::string& line) {
        std::istringstream fields(line);
        std::string verb, path;
        std::size_t first = 0, count = 0;
        if (!(fields >> verb >> path >> first >> count)) throw std::runtime_error("not understood; `loop PLAN FIRST COUNT` is wanted");
        const PlanFile& plan = find_plan(path, first, count);
        const auto rows = std::span(plan.rows).subspan(first, count);
        std::vector<Padder> padders(count, Padder{sessions_.padders.front().pad_id}); // one a row: all tensors are there before the start
        std::vector<Batch> batches;
        for (std::size_t place = 0; place < count; ++place) {
            padders[place].reserve(plan, rows.subspan(place, 1), 1);
            batches.push_back(padders[place].batch(plan, rows.subspan(place, 1)));
        }
        const std::int64_t start_ns = now_ns();
        for (const Batch& batch : batches) sessions_.each.front()(batch);
        return now_ns() - start_ns;
    }

    Sessions<Session> sessions_;
    std::map<std::string, PlanFile> plans_;
};
