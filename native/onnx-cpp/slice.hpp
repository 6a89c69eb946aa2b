// The loop: sessions take rows that are due, embed them and record when.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "clock.hpp"
#include "options.hpp"
#include "padder.hpp"
#include "plan_file.hpp"
#include "queue.hpp"
#include "recorder.hpp"

// One `serve` line: `count` rows from row `first` of a plan, at `rate` rows per second (0: back to back), up to `batch` together; none is
// taken later than `seconds` after the start.
struct Serve {
    std::string plan;
    std::size_t first, count;
    double rate;
    std::size_t batch;
    double seconds;
    std::filesystem::path out;
};

inline Serve parse_serve(std::string_view line) {
    const auto fields = split(line, ' ');
    if (fields.size() != 8 || fields[0] != "serve") {
        throw std::runtime_error("not understood; `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT` or `quit` is wanted");
    }
    const auto first = number<std::size_t>(fields[2]), count = number<std::size_t>(fields[3]), batch = number<std::size_t>(fields[5]);
    const auto rate = number<double>(fields[4]), seconds = number<double>(fields[6]);
    if (!first || !count || !rate || !batch || !seconds || *count < 1 || !(*rate >= 0 && std::isfinite(*rate)) || *batch < 1 || !(*seconds > 0 && std::isfinite(*seconds))) {
        throw std::runtime_error("FIRST >= 0, COUNT >= 1, RATE >= 0, BATCH >= 1 and SECONDS > 0 are wanted");
    }
    Serve order{std::string(fields[1]), *first, *count, *rate, *batch, *seconds, std::filesystem::path(fields[7])};
    if (exists(order.out)) throw std::runtime_error(order.out.string() + " exists; name a new folder");
    return order;
}

// A slice that a session or the disk ended early; `rows` rows were answered by then.
struct SliceFailed : std::runtime_error {
    SliceFailed(std::size_t rows, const std::string& reason) : std::runtime_error(reason), rows(rows) {}
    std::size_t rows;
};

// How much of a slice was served. The recorder holds its first `rows` rows.
struct SliceCounts {
    std::size_t rows, batches;
};

// A session that pads its own batches. One thread uses it at a time. A session is called with a Batch; its answer converts to a span of
// rows × dim numbers and is kept until those are copied, after the clock has been read.
template <class Session>
struct PaddedSession {
    Session session;
    Padder padder;

    // Embeds `rows` together into `vectors` (rows × dim); returns the time at which the vectors were there. `delay` is called just before
    // the clock is read.
    template <class Delay>
    std::int64_t embed(Elements elements, std::span<const Row> rows, std::span<float> vectors, Delay delay) {
        const auto answer = session(padder.batch(elements, rows));
        delay();
        const std::int64_t end_ns = now_ns();
        const std::span<const float> numbers = answer;
        if (numbers.size() != vectors.size()) throw std::runtime_error("not rows × dim numbers came back");
        std::ranges::copy(numbers, vectors.begin());
        return end_ns;
    }
};

// The sessions of a worker and the recorder of the last slice.
template <class Session>
struct Sessions {
    std::vector<PaddedSession<Session>> each;
    std::size_t dim;
    Fault fault;
    std::atomic<bool> stalled = false;
    Recorder recorder{};

    SliceCounts serve(const PlanFile& plan, const Serve& order) {
        const auto rows = std::span(plan.rows).subspan(order.first, order.count);
        recorder.clear(rows.size(), dim);
        for (auto& session : each) session.padder.reserve(plan.elements(), rows, order.batch);

        std::vector<std::int64_t> dues(order.rate > 0 ? rows.size() : 0);
        double gaps = 0;
        for (std::size_t row = 0; row < dues.size(); ++row) dues[row] = nanoseconds((gaps += rows[row].gap) / order.rate);
        Queue queue{.dues = dues, .rows = rows.size(), .batch = order.batch, .guard_ns = 0};
        std::atomic<std::size_t> batches = 0;
        std::int64_t t0_ns = 0;
        const auto start = [&] {
            t0_ns = now_ns();
            queue.guard_ns = t0_ns + nanoseconds(order.seconds);
            for (std::int64_t& due_ns : dues) due_ns += t0_ns;
        };
        const auto work = [&](std::size_t session) {
            try {
                batches += drive(each[session], plan.elements(), rows, queue, t0_ns);
            } catch (const std::exception& error) {
                queue.fail(one_line(error.what()));
            } catch (...) {
                queue.fail("an exception that says nothing");
            }
        };
        if (each.size() == 1) {
            start();
            work(0);
        } else {
            std::unique_lock starting(queue.lock); // no session takes a row before all threads are there
            std::vector<std::jthread> threads;
            for (std::size_t session = 0; session < each.size() && queue.failure.empty(); ++session) {
                try {
                    threads.emplace_back([&, session] {
                        { const std::scoped_lock started(queue.lock); }
                        work(session);
                    });
                } catch (const std::system_error& error) {
                    queue.failure = std::string("cannot start a thread: ") + error.what();
                }
            }
            start();
            starting.unlock();
        }
        if (!queue.failure.empty()) throw SliceFailed(recorder.answered(), queue.failure);
        return {queue.taken, batches};
    }

  private:
    std::size_t drive(PaddedSession<Session>& session, Elements elements, std::span<const Row> rows, Queue& queue, std::int64_t t0_ns) {
        std::size_t batches = 0;
        for (; const auto taken = queue.take(); ++batches) {
            const auto vectors = std::span(recorder.vectors).subspan(taken->first * dim, taken->rows * dim);
            const auto delayed = [&] { delay(t0_ns, taken->start_ns); };
            const std::int64_t end_ns = session.embed(elements, rows.subspan(taken->first, taken->rows), vectors, delayed);
            for (std::size_t row = taken->first; row < taken->first + taken->rows; ++row) {
                recorder.samples[row] = {queue.dues.empty() ? taken->start_ns : queue.dues[row], taken->start_ns, end_ns};
            }
        }
        return batches;
    }

    // Waits for what the fault adds to a service that began at `start_ns` of a slice that began at `t0_ns`.
    void delay(std::int64_t t0_ns, std::int64_t start_ns) {
        if (fault.slow > 1) wait_until(start_ns + static_cast<std::int64_t>(static_cast<double>(now_ns() - start_ns) * fault.slow));
        if (fault.stall_ns > 0 && start_ns - t0_ns >= fault.stall_at_ns && !stalled.exchange(true)) wait_until(now_ns() + fault.stall_ns);
    }
};
