// The answers of a loaded model to the lines of its parent.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <istream>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "shared_memory.hpp"
#include "slice.hpp"

// One `embed` line: `rows` rows in the memory `shared`, for session number `session`.
struct Embed {
    std::size_t session;
    bool image;
    std::size_t rows;
    std::string shared;
};

inline Embed parse_embed(std::string_view line, std::size_t sessions) {
    const auto fields = split(line, ' ');
    const bool five = fields.size() == 5;
    const auto session = five ? number<std::size_t>(fields[1]) : std::nullopt, rows = five ? number<std::size_t>(fields[3]) : std::nullopt;
    if (!session || *session >= sessions || !rows || *rows < 1 || (fields[2] != "tokens" && fields[2] != "pixels")) {
        throw std::runtime_error("`embed SESSION KIND ROWS SHARED` is wanted, SESSION < " + std::to_string(sessions) + ", KIND tokens or pixels, ROWS >= 1");
    }
    return {*session, fields[2] == "pixels", *rows, std::string(fields[4])};
}

// The next line; nothing after `quit`.
inline std::optional<std::string> next_line(std::istream& lines) {
    std::string line;
    if (!std::getline(lines, line) || line == "quit") return std::nullopt;
    return line;
}

// Orders for the thread of one session. Closed, it gives what it still holds and then nothing.
struct Mailbox {
    std::mutex lock{};
    std::condition_variable changed{};
    std::deque<Embed> orders{};
    bool closed = false;

    void put(Embed order) {
        const std::scoped_lock hold(lock);
        orders.push_back(std::move(order));
        changed.notify_one();
    }

    void close() {
        const std::scoped_lock hold(lock);
        closed = true;
        changed.notify_one();
    }

    std::optional<Embed> take() {
        std::unique_lock hold(lock);
        changed.wait(hold, [&] { return closed || !orders.empty(); });
        if (orders.empty()) return std::nullopt;
        Embed order = std::move(orders.front());
        orders.pop_front();
        return order;
    }
};

// Closes mailboxes at the end of its scope.
struct Closer {
    std::vector<Mailbox>& mailboxes;

    ~Closer() {
        for (Mailbox& mailbox : mailboxes) mailbox.close();
    }
};

// A loaded model, and the plans and the memory that it has mapped, each once.
template <class Session>
class Conversation {
  public:
    using Say = std::function<void(std::string)>;

    Conversation(std::vector<Session> sessions, std::size_t dim, std::int64_t pad_id, Fault fault)
        : sessions_{.each = {}, .dim = dim, .fault = fault}, memories_(sessions.size()) {
        for (Session& session : sessions) sessions_.each.push_back({std::move(session), Padder{pad_id}});
    }

    // Answers lines until `quit` or their end.
    void converse(std::istream& lines, const Say& say) {
        for (auto line = next_line(lines); line;) {
            if (is_embed(*line) && sessions_.each.size() > 1) {
                line = embed_side_by_side(*line, lines, say);
            } else {
                say(answer(*line));
                line = next_line(lines);
            }
        }
    }

  private:
    static bool is_embed(std::string_view line) { return line.starts_with("embed "); }

    // The answer to one line. Whatever goes wrong becomes an answer too, and the worker stays usable.
    std::string answer(const std::string& line) {
        std::size_t rows = 0;
        try {
            if (is_embed(line)) return embed_answer(parse_embed(line, 1));
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

    // Embeds the rows of one line; the answer to it.
    std::string embed_answer(const Embed& order) {
        const std::string session = std::to_string(order.session);
        try {
            return "embedded " + session + " " + std::to_string(embed(order));
        } catch (const std::exception& error) {
            return "not-embedded " + session + " " + one_line(error.what());
        } catch (...) {
            return "not-embedded " + session + " an exception that says nothing";
        }
    }

    // The service time in ns, as `serve` takes it; the vectors are in the shared memory then.
    std::int64_t embed(const Embed& order) {
        auto& memories = memories_[order.session];
        auto known = memories.find(order.shared);
        if (known == memories.end()) known = memories.emplace(order.shared, SharedMemory(order.shared)).first;
        const SharedRows shared = known->second.rows(order.image, order.rows, sessions_.dim);
        auto& session = sessions_.each[order.session];
        session.padder.reserve(shared.elements, shared.rows, order.rows);
        const std::int64_t start_ns = now_ns();
        return session.embed(shared.elements, shared.rows, shared.vectors, [] {}) - start_ns;
    }

    // Answers `embed` lines with a thread for each session, until another line comes; returns that.
    std::optional<std::string> embed_side_by_side(std::string first, std::istream& lines, const Say& say) {
        std::vector<Mailbox> mailboxes(sessions_.each.size());
        std::vector<std::jthread> threads;
        const Closer closer{mailboxes}; // before the threads are joined
        for (Mailbox& mailbox : mailboxes) {
            threads.emplace_back([&] {
                try {
                    while (const auto order = mailbox.take()) say(embed_answer(*order));
                } catch (const Unable&) { // a parent that has closed the pipe ends the conversation when its next line is missing
                }
            });
        }
        std::optional<std::string> line = std::move(first);
        for (; line && is_embed(*line); line = next_line(lines)) {
            try {
                Embed order = parse_embed(*line, mailboxes.size());
                mailboxes[order.session].put(std::move(order));
            } catch (const std::exception& error) {
                say("failed 0 " + one_line(error.what()));
            }
        }
        return line;
    }

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
        std::vector<Padder> padders(count, Padder{sessions_.each.front().padder.pad_id}); // one a row: all tensors are there before the start
        std::vector<Batch> batches;
        for (std::size_t place = 0; place < count; ++place) {
            padders[place].reserve(plan.elements(), rows.subspan(place, 1), 1);
            batches.push_back(padders[place].batch(plan.elements(), rows.subspan(place, 1)));
        }
        const std::int64_t start_ns = now_ns();
        for (const Batch& batch : batches) sessions_.each.front().session(batch);
        return now_ns() - start_ns;
    }

    Sessions<Session> sessions_;
    std::map<std::string, PlanFile> plans_{};
    std::vector<std::map<std::string, SharedMemory>> memories_; // of each session
};
