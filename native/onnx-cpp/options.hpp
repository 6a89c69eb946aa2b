// The flags of a worker.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text.hpp"

// Planted faults for the controls: every service `slow` times as long; one stall of `stall_ns` for the first request
// that starts `stall_at_ns` or more after the start of a `serve`.
struct Fault {
    double slow = 1;
    std::int64_t stall_at_ns = 0;
    std::int64_t stall_ns = 0;
};

struct Options {
    bool version = false;
    std::filesystem::path model;
    std::string precision;
    int sessions = 0;
    int threads = 0;
    std::int64_t pad_id = 0;
    std::vector<std::pair<std::string, std::string>> set;
    Fault fault;
    std::string fault_text;

    // The last value given for a knob.
    std::optional<std::string> knob(std::string_view key) const {
        const auto found = std::find_if(set.rbegin(), set.rend(), [&](const auto& pair) { return pair.first == key; });
        return found == set.rend() ? std::nullopt : std::optional(found->second);
    }
};

inline int at_least_one(std::string_view flag, std::string_view text) {
    const auto value = number<int>(text);
    if (!value || *value < 1) throw Usage(std::string(flag) + " " + std::string(text) + ": a whole number of 1 or more is wanted");
    return *value;
}

inline double at_least(double least, std::string_view text) {
    const auto value = number<double>(text);
    if (!value || !std::isfinite(*value) || *value < least) throw Usage("--fault: not a number that can be: " + std::string(text));
    return *value;
}

inline Fault parse_fault(std::string_view text) {
    const auto parts = split(text, '=');
    if (parts.size() == 2 && parts[0] == "slow") return {.slow = at_least(1, parts[1])};
    const auto times = parts.size() == 2 && parts[0] == "stall" ? split(parts[1], ':') : std::vector<std::string_view>();
    if (times.size() != 2) throw Usage("--fault " + std::string(text) + ": slow=F or stall=AT_S:FOR_S is wanted");
    const auto nanoseconds = [](std::string_view seconds) { return static_cast<std::int64_t>(at_least(0, seconds) * 1e9); };
    return {.stall_at_ns = nanoseconds(times[0]), .stall_ns = nanoseconds(times[1])};
}

// `check_knob` throws Usage for a key or value that the framework does not take.
template <class CheckKnob>
Options parse_options(std::span<char* const> arguments, CheckKnob check_knob) {
    constexpr std::array<std::string_view, 5> precisions = {"fp32", "fp16", "bf16", "int8", "int4"};
    Options options;
    std::optional<std::int64_t> pad_id;
    for (std::size_t place = 0; place < arguments.size(); ++place) {
        const std::string_view flag = arguments[place];
        if (flag == "--version") {
            options.version = true;
            continue;
        }
        if (place + 1 == arguments.size()) throw Usage(std::string(flag) + ": unknown, or its value is missing");
        const std::string_view value = arguments[++place];
        if (flag == "--model") {
            options.model = value;
        } else if (flag == "--precision") {
            if (std::ranges::find(precisions, value) == precisions.end()) throw Usage("--precision " + std::string(value) + ": unknown");
            options.precision = value;
        } else if (flag == "--sessions") {
            options.sessions = at_least_one(flag, value);
        } else if (flag == "--threads") {
            options.threads = at_least_one(flag, value);
        } else if (flag == "--pad-id") {
            pad_id = number<std::int64_t>(value);
            if (!pad_id) throw Usage("--pad-id " + std::string(value) + ": a whole number is wanted");
        } else if (flag == "--set") {
            const auto equals = value.find('=');
            if (equals == std::string_view::npos) throw Usage("--set " + std::string(value) + ": KEY=VALUE is wanted");
            check_knob(value.substr(0, equals), value.substr(equals + 1));
            options.set.emplace_back(value.substr(0, equals), value.substr(equals + 1));
        } else if (flag == "--fault") {
            options.fault = parse_fault(value);
            options.fault_text = value;
        } else {
            throw Usage(std::string(flag) + ": unknown flag");
        }
    }
    if (options.version) return options;
    if (options.model.empty() || options.precision.empty() || !options.sessions || !options.threads || !pad_id) {
        throw Usage("--model, --precision, --sessions, --threads and --pad-id are all wanted");
    }
    options.pad_id = *pad_id;
    return options;
}
