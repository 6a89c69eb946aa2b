// Words in and out: numbers, one-line messages, flat JSON, and the ways in which a worker ends early.
#pragma once

#include <algorithm>
#include <charconv>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

// Wrong flags: exit 2.
struct Usage : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The runtime cannot do what was asked: exit 3.
struct NotApplicable : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Something that can be mended: exit 1.
struct Unable : std::runtime_error {
    Unable(const std::string& thing, const std::string& cure) : std::runtime_error(thing + ": " + cure) {}
};

// All of `text` as a number, or nothing.
template <class Number>
std::optional<Number> number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

inline std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (std::size_t end; (end = text.find(separator)) != std::string_view::npos; text.remove_prefix(end + 1)) {
        parts.push_back(text.substr(0, end));
    }
    parts.push_back(text);
    return parts;
}

// Messages of runtimes span lines; the protocol has one.
inline std::string one_line(std::string_view text) {
    std::string line;
    for (const char letter : text) {
        const bool space = letter == ' ' || (letter >= '\t' && letter <= '\r');
        if (!space) {
            line += letter;
        } else if (!line.empty() && line.back() != ' ') {
            line += ' ';
        }
    }
    return line;
}

// The members of a flat JSON object, as written so far.
struct Members {
    std::string text{};
    std::vector<std::string> names{};

    bool has(std::string_view name) const { return std::ranges::find(names, name) != names.end(); }

    void key(std::string_view name) {
        text += text.empty() ? "" : ", ";
        quote(name);
        text += ": ";
        names.emplace_back(name);
    }

    void add(std::string_view name, std::string_view value) {
        key(name);
        quote(value);
    }

    void add(std::string_view name, long long value) {
        key(name);
        text += std::to_string(value);
    }

    void add(std::string_view name, const Members& object) {
        key(name);
        text += object.json();
    }

    std::string json() const { return "{" + text + "}"; }

  private:
    void quote(std::string_view value) {
        constexpr std::string_view hex = "0123456789abcdef";
        text += '"';
        for (const char letter : value) {
            const auto code = static_cast<unsigned char>(letter);
            if (letter == '"' || letter == '\\') {
                text += '\\';
                text += letter;
            } else if (code < 0x20) {
                text += "\\u00";
                text += hex[code >> 4];
                text += hex[code & 15];
            } else {
                text += letter;
            }
        }
        text += '"';
    }
};
