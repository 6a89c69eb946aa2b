// A worker process from its first act to its exit status: the protocol of bench/WORKER.md around any session.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "conversation.hpp"

// A loaded model: one session each, the length of a vector, the settings as read back from the runtime.
// The first calls take one row of the ids 1 … example_tokens, or where that is 0 one image of example_pixels zeros.
template <class Session>
struct Loaded {
    std::vector<Session> sessions;
    std::size_t dim;
    std::size_t example_tokens;
    std::size_t example_pixels;
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

// A frozen worker must not outlive its parent, whose pid is BENCH_PARENT, and a sleep ends when it should; threads inherit the timer slack.
inline void bind_to_parent() {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_TIMERSLACK, 1) != 0) throw Unable("prctl fails", "run the worker under Linux");
    const char* const stated = std::getenv("BENCH_PARENT");
    const int parent = stated ? number<int>(stated).value_or(0) : 0;
    // it may have ended before the kernel knew of the wish above
    if (parent > 0 && kill(parent, 0) != 0 && errno == ESRCH) throw Unable("the parent has ended", "start the worker from a process that waits for it");
}

// The time of one call on the example, in ns.
template <class Session>
std::int64_t call_ns(Session& session, const Loaded<Session>& loaded) {
    std::vector<std::int64_t> ids(loaded.example_tokens), mask(loaded.example_tokens, 1);
    std::iota(ids.begin(), ids.end(), 1);
    const std::vector<float> pixels(loaded.example_pixels);
    const std::size_t width = ids.size() + pixels.size();
    const std::int64_t start_ns = now_ns();
    const auto answer = session(Batch{ids.data(), mask.data(), pixels.data(), std::span(&width, 1), 1, width});
    const std::int64_t spent_ns = now_ns() - start_ns;
    if (std::span<const float>(answer).size() != loaded.dim) throw std::runtime_error("not as many numbers came back as the vector is long");
    return spent_ns;
}

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
        ready.add("first_ns", call_ns(loaded.sessions.front(), loaded));
        ready.add("second_ns", call_ns(loaded.sessions.front(), loaded));
        for (auto& session : std::span(loaded.sessions).subspan(1)) call_ns(session, loaded);
    } catch (const std::exception& error) {
        throw Unable(error.what(), "export the model again; if it stays so, the runtime cannot run this model");
    }
    loaded.settings.add("sessions", options.sessions);
    for (const auto& [key, value] : options.set) {
        if (!loaded.settings.has(key)) loaded.settings.add(key, *options.knob(key)); // what the runtime read back stands above what was asked for
    }
    if (!options.fault_text.empty()) loaded.settings.add("fault", options.fault_text);
    ready.add("dim", static_cast<long long>(loaded.dim));
    ready.add("settings", loaded.settings);

    Conversation conversation(std::move(loaded.sessions), loaded.dim, options.pad_id, options.fault);
    protocol.say("ready " + ready.json());
    conversation.converse(std::cin, [&](std::string line) { protocol.say(std::move(line)); });
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
