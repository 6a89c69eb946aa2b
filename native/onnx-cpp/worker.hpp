// A worker process from its first act to its exit status: the protocol of bench/WORKER.md around any session.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <iostream>
#include <map>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "drive.hpp"

// A loaded model: one session each, the length of a vector, the settings as read back from the runtime.
// The first calls take one row of the ids 1 … probe_tokens, or where that is 0 one image of probe_pixels zeros.
template <class Session>
struct Loaded {
    std::vector<Session> sessions;
    std::size_t dim;
    std::size_t probe_tokens;
    std::size_t probe_pixels;
    Members settings;
};

// A private copy of stdout; fd 1 is stderr from here on, because runtimes print.
class Protocol {
  public:
    Protocol() : file_(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)) {
        if (file_ < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) throw Unable("stdout cannot be duplicated", "start the worker with stdout and stderr open");
    }
    Protocol(const Protocol&) = delete;
    ~Protocol() { close(file_); }

    void say(std::string line) const {
        line += '\n';
        for (std::string_view rest = line; !rest.empty();) {
            const ssize_t written = write(file_, rest.data(), rest.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) throw Unable("the protocol's pipe is closed", "keep the worker's stdout open until it has ended");
            rest.remove_prefix(static_cast<std::size_t>(written));
        }
    }

  private:
    int file_;
};

// A frozen worker must not outlive its parent, and a sleep ends when it should; threads inherit the second wish.
inline void bind_to_parent() {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_TIMERSLACK, 1) != 0) throw Unable("prctl fails", "run the worker under Linux");
}

// The time of one call on the probe, in ns.
template <class Session>
std::int64_t probe(Session& session, const Loaded<Session>& loaded) {
    std::vector<std::int64_t> ids(loaded.probe_tokens), mask(loaded.probe_tokens, 1);
    std::iota(ids.begin(), ids.end(), 1);
    const std::vector<float> pixels(loaded.probe_pixels);
    const std::size_t width = ids.size() + pixels.size();
    const std::int64_t start_ns = now_ns();
    const auto answer = session(Block{ids.data(), mask.data(), pixels.data(), std::span(&width, 1), 1, width});
    const std::int64_t spent_ns = now_ns() - start_ns;
    if (std::span<const float>(answer).size() != loaded.dim) throw std::runtime_error("not as many numbers came back as the vector is long");
    return spent_ns;
}

template <class Session>
class Server {
  public:
    Server(std::vector<Session> sessions, std::size_t dim, std::int64_t pad_id, Fault fault)
        : sessions_{.each = std::move(sessions), .padders = {}, .dim = dim, .fault = fault} {
        sessions_.padders.assign(sessions_.each.size(), Padder{pad_id});
    }

    // One line in, one line out. Whatever goes wrong is said, and the worker stays usable.
    std::string answer(const std::string& line) {
        std::size_t rows = 0;
        try {
            if (line.starts_with("loop ")) return "looped " + std::to_string(bare(line));
            const Order order = parse_order(line);
            const Plan& plan = find_plan(order.plan, order.first, order.count);
            const auto served = sessions_.serve(plan, order);
            rows = served.rows;
            write_out(order, std::span(sessions_.samples).first(rows), std::span(sessions_.vectors).first(rows * sessions_.dim), sessions_.dim,
                      served.batches);
            return "served " + std::to_string(rows);
        } catch (const SliceFailed& failed) {
            return "failed " + std::to_string(failed.rows) + " " + failed.what();
        } catch (const std::exception& error) {
            return "failed " + std::to_string(rows) + " " + one_line(error.what());
        }
    }

  private:
    // The plan of this path, mapped once and kept; it has the rows that are asked for.
    const Plan& find_plan(const std::string& path, std::size_t first, std::size_t count) {
        auto known = plans_.find(path);
        if (known == plans_.end()) known = plans_.emplace(path, open_plan(path)).first;
        const Plan& plan = known->second;
        if (first > plan.rows.size() || count > plan.rows.size() - first) {
            throw std::runtime_error(path + " has " + std::to_string(plan.rows.size()) + " rows, not as many as asked for");
        }
        return plan;
    }

    // `loop PLAN FIRST COUNT`: the ns that the framework takes for these rows one by one, called in a plain loop that records nothing.
    std::int64_t bare(const std::string& line) {
        std::istringstream fields(line);
        std::string verb, path;
        std::size_t first = 0, count = 0;
        if (!(fields >> verb >> path >> first >> count)) throw std::runtime_error("not understood; `loop PLAN FIRST COUNT` is wanted");
        const Plan& plan = find_plan(path, first, count);
        const auto rows = std::span(plan.rows).subspan(first, count);
        std::vector<Padder> padders(count, Padder{sessions_.padders.front().pad_id}); // one a row: all tensors are there before the start
        std::vector<Block> blocks;
        for (std::size_t place = 0; place < count; ++place) {
            padders[place].reserve(plan, rows.subspan(place, 1), 1);
            blocks.push_back(padders[place].block(plan, rows.subspan(place, 1)));
        }
        const std::int64_t start_ns = now_ns();
        for (const Block& block : blocks) sessions_.each.front()(block);
        return now_ns() - start_ns;
    }

    Sessions<Session> sessions_;
    std::map<std::string, Plan> plans_;
};

// Loads, says `ready` and answers lines until `quit` or the end of stdin.
template <class Load>
void converse(const Options& options, const Protocol& protocol, Load load) {
    if (!is_directory(options.model)) throw Unable(options.model.string() + " is no folder", "give --model an artefact folder, as `invoke export` makes them");
    const std::int64_t begin_ns = now_ns();
    auto loaded = load(options);
    const std::int64_t load_ns = now_ns() - begin_ns;
    Members ready;
    ready.add("load_ns", load_ns);
    try {
        ready.add("first_ns", probe(loaded.sessions.front(), loaded));
        ready.add("second_ns", probe(loaded.sessions.front(), loaded));
        for (auto& session : std::span(loaded.sessions).subspan(1)) probe(session, loaded);
    } catch (const std::exception& error) {
        throw Unable(error.what(), "export the model again; if it stays so, the runtime cannot run this model");
    }
    loaded.settings.add("sessions", options.sessions);
    if (!options.fault_text.empty()) loaded.settings.add("fault", options.fault_text);
    ready.add("dim", static_cast<long long>(loaded.dim));
    ready.add("settings", loaded.settings);

    Server server(std::move(loaded.sessions), loaded.dim, options.pad_id, options.fault);
    protocol.say("ready " + ready.json());
    for (std::string line; std::getline(std::cin, line) && line != "quit";) protocol.say(server.answer(line));
}

// The whole process: `version` gives Members, `load` turns Options into Loaded, `check_knob` refuses what the framework does not take.
template <class CheckKnob, class Version, class Load>
int run_worker(int count, char** arguments, CheckKnob check_knob, Version version, Load load) {
    const Protocol protocol;
    bind_to_parent();
    const Options options = parse_options(std::span(arguments + 1, arguments + count), check_knob);
    if (options.version) {
        protocol.say(version().json());
    } else {
        converse(options, protocol, load);
    }
    return 0;
}

// Called in a handler: one line to stderr, and the exit status that belongs to it.
inline int report_failure() {
    try {
        throw;
    } catch (const Usage& error) {
        std::cerr << "usage: " << one_line(error.what()) << '\n';
        return 2;
    } catch (const NotApplicable& reason) {
        std::cerr << "not-applicable " << one_line(reason.what()) << '\n';
        return 3;
    } catch (const Unable& error) {
        std::cerr << "error: " << one_line(error.what()) << '\n';
        return 1;
    } catch (const std::exception& error) {
        std::cerr << "error: " << one_line(error.what()) << ": this is a defect of the worker, please report it\n";
        return 1;
    }
}
