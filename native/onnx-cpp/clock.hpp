// CLOCK_MONOTONIC, the one clock that all workers and the parent share.
#pragma once

#include <time.h>

#include <cerrno>
#include <cstdint>
#include <limits>

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
