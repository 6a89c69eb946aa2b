// The rows of a slice that no session has taken yet.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "clock.hpp"

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
