// The loop: who takes which rows when, and what is written down about it.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "block.hpp"
#include "options.hpp"
#include "plan.hpp"

inline std::int64_t now_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// Sleeps until 150 µs before and spins the rest, because a plain sleep wakes up to 50 µs late.
inline void wait_until(std::int64_t at_ns) {
    constexpr std::int64_t spin_ns = 150'000;
    if (const std::int64_t wake_ns = at_ns - spin_ns; wake_ns > now_ns()) {
        const timespec wake{wake_ns / 1'000'000'000, wake_ns % 1'000'000'000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, nullptr) == EINTR) {
        }
    }
    while (now_ns() < at_ns) {
    }
}

// Seconds as whole ns; what int64 cannot hold becomes a time that never comes (and can still be added to a clock).
inline std::int64_t nanoseconds(double seconds) {
    constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max() / 4;
    return seconds * 1e9 < static_cast<double>(never) ? static_cast<std::int64_t>(seconds * 1e9) : never;
}

struct Sample {
    std::int64_t due_ns, start_ns, end_ns;
};

// One `serve` line.
struct Order {
    std::string plan;
    std::size_t first, count;
    double rate;
    std::size_t batch;
    double seconds;
    std::filesystem::path out;
};

inline Order parse_order(std::string_view line) {
    const auto fields = split(line, ' ');
    if (fields.size() != 8 || fields[0] != "serve") {
        throw std::runtime_error("not understood; `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT` or `quit` is wanted");
    }
    const auto first = number<std::size_t>(fields[2]), count = number<std::size_t>(fields[3]), batch = number<std::size_t>(fields[5]);
    const auto rate = number<double>(fields[4]), seconds = number<double>(fields[6]);
    if (!first || !count || !rate || !batch || !seconds || *count < 1 || !(*rate >= 0 && std::isfinite(*rate)) || *batch < 1 || !(*seconds > 0)) {
        throw std::runtime_error("FIRST >= 0, COUNT >= 1, RATE >= 0, BATCH >= 1 and SECONDS > 0 are wanted");
    }
    Order order{std::string(fields[1]), *first, *count, *rate, *batch, *seconds, std::filesystem::path(fields[7])};
    if (exists(order.out)) throw std::runtime_error(order.out.string() + " exists; name a new folder");
    return order;
}

// Rows in plan order, handed out behind a lock; each row goes to one session only.
struct Queue {
    std::mutex lock{};
    std::span<const std::int64_t> dues; // empty: back to back
    std::size_t rows;
    std::size_t batch;
    std::int64_t guard_ns;
    std::size_t taken = 0;
    std::string failure{};

    struct Taken {
        std::size_t first, rows;
        std::int64_t start_ns;
    };

    // The next rows and the time of taking them, which is their start; nothing when it is over.
    std::optional<Taken> take() {
        std::unique_lock hold(lock);
        while (taken < rows && failure.empty()) {
            const std::int64_t now = now_ns();
            if (now > guard_ns) break;
            std::size_t stop = dues.empty() ? std::min(taken + batch, rows) : taken;
            if (!dues.empty()) {
                while (stop < rows && stop - taken < batch && dues[stop] <= now) ++stop;
            }
            if (stop > taken) {
                const std::size_t first = std::exchange(taken, stop);
                return Taken{first, stop - first, now};
            }
            const std::int64_t due_ns = dues[taken];
            if (due_ns > guard_ns) break;
            hold.unlock();
            wait_until(due_ns);
            hold.lock();
        }
        return std::nullopt;
    }

    // Ends the slice for every session; the first reason stays.
    void fail(std::string reason) {
        const std::scoped_lock hold(lock);
        if (failure.empty()) failure = std::move(reason);
    }
};

// A session that failed ended the slice; `rows` were answered by then.
struct SliceFailed : std::runtime_error {
    SliceFailed(std::size_t rows, const std::string& reason) : std::runtime_error(reason), rows(rows) {}
    std::size_t rows;
};

// The sessions of a worker with the buffers that they reuse. A session is called with a Block and answers with something that turns
// into a span of rows × dim numbers and lives until those are copied, after the clock has been read.
template <class Session>
struct Sessions {
    std::vector<Session> each;
    std::vector<Padder> padders;
    std::size_t dim;
    Fault fault;
    std::atomic<bool> stalled = false;
    std::vector<Sample> samples{};
    std::vector<float> vectors{};

    struct Served {
        std::size_t rows, batches;
    };

    Served serve(const Plan& plan, const Order& order) {
        const auto rows = std::span(plan.rows).subspan(order.first, order.count);
        samples.assign(rows.size(), Sample{});
        vectors.resize(std::max(vectors.size(), rows.size() * dim));
        for (Padder& padder : padders) padder.reserve(plan, rows, order.batch);

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
                batches += drive(each[session], padders[session], plan, rows, queue, t0_ns);
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
            std::unique_lock starting(queue.lock); // nobody takes a row before all threads are there
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
        if (!queue.failure.empty()) {
            const auto answered = std::ranges::count_if(samples, [](const Sample& sample) { return sample.end_ns > 0; });
            throw SliceFailed(static_cast<std::size_t>(answered), queue.failure);
        }
        return {queue.taken, batches};
    }

  private:
    std::size_t drive(Session& session, Padder& padder, const Plan& plan, std::span<const Row> rows, Queue& queue, std::int64_t t0_ns) {
        std::size_t batches = 0;
        for (; const auto taken = queue.take(); ++batches) {
            const auto answer = session(padder.block(plan, rows.subspan(taken->first, taken->rows)));
            delay(t0_ns, taken->start_ns);
            const std::int64_t end_ns = now_ns();
            const std::span<const float> numbers = answer;
            if (numbers.size() != taken->rows * dim) throw std::runtime_error("not rows × dim numbers came back");
            std::ranges::copy(numbers, vectors.begin() + static_cast<std::ptrdiff_t>(taken->first * dim));
            for (std::size_t row = taken->first; row < taken->first + taken->rows; ++row) {
                samples[row] = {queue.dues.empty() ? taken->start_ns : queue.dues[row], taken->start_ns, end_ns};
            }
        }
        return batches;
    }

    void delay(std::int64_t t0_ns, std::int64_t start_ns) {
        if (fault.slow > 1) wait_until(start_ns + static_cast<std::int64_t>(static_cast<double>(now_ns() - start_ns) * fault.slow));
        if (fault.stall_ns > 0 && start_ns - t0_ns >= fault.stall_at_ns && !stalled.exchange(true)) wait_until(now_ns() + fault.stall_ns);
    }
};

// Writes OUT under a temporary name and renames it: it appears whole or not at all.
inline void write_out(const Order& order, std::span<const Sample> samples, std::span<const float> vectors, std::size_t dim, std::size_t batches) {
    std::filesystem::path temporary = order.out;
    temporary += ".tmp";
    remove_all(temporary);
    create_directories(temporary);
    const auto write = [&](const char* name, const auto& body) {
        std::ofstream file(temporary / name, std::ios::binary);
        body(file);
        if (!file.flush()) throw std::runtime_error("cannot write " + (temporary / name).string());
    };
    write("samples.csv", [&](std::ostream& file) {
        file << "request,due_ns,start_ns,end_ns\n";
        std::size_t request = order.first;
        for (const Sample& sample : samples) {
            file << request++ << ',' << sample.due_ns << ',' << sample.start_ns << ',' << sample.end_ns << '\n';
        }
    });
    write("vectors.bin", [&](std::ostream& file) {
        const auto bytes = std::as_bytes(vectors);
        file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    });
    write("slice.json", [&](std::ostream& file) {
        file << "{\"rows\": " << samples.size() << ", \"dim\": " << dim << ", \"dtype\": \"float32\", \"batches\": " << batches << "}\n";
    });
    rename(temporary, order.out);
}
