// A plan folder: rows of a table that point into one mapped array.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "text.hpp"

static_assert(std::endian::native == std::endian::little, "plans and vectors are little-endian and mapped as they are");

// A file in memory, read-only, its pages already there.
class Mapped {
  public:
    explicit Mapped(const std::filesystem::path& path) {
        const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0) throw std::system_error(errno, std::generic_category(), path.string());
        struct stat status {};
        const bool sized = fstat(file, &status) == 0 && status.st_size > 0;
        void* const at = sized ? mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0) : MAP_FAILED;
        close(file);
        if (at == MAP_FAILED) throw std::runtime_error(path.string() + " is empty or cannot be mapped");
        data_ = at;
        bytes_ = static_cast<std::size_t>(status.st_size);
    }
    Mapped(Mapped&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Mapped& operator=(Mapped&&) = delete;
    ~Mapped() {
        if (data_) munmap(data_, bytes_);
    }

    const void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }

  private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

// One request: the mean-1 gap before it, and where its elements lie in the array.
struct Row {
    double gap;
    std::size_t offset;
    std::size_t length;
};

// The array that rows point into: ids or pixels.
struct Elements {
    const void* data;
    bool image;

    const std::int64_t* tokens() const { return static_cast<const std::int64_t*>(data); }
    const float* pixels() const { return static_cast<const float*>(data); }
};

struct PlanFile {
    Mapped array;
    bool image;
    std::vector<Row> rows;

    Elements elements() const { return {array.data(), image}; }
};

inline Row parse_row(std::string_view line) {
    const auto fields = split(line, ',');
    if (fields.size() == 3) {
        const auto gap = number<double>(fields[0]);
        const auto offset = number<std::size_t>(fields[1]), length = number<std::size_t>(fields[2]);
        if (gap && offset && length && std::isfinite(*gap) && *gap >= 0) return {*gap, *offset, *length};
    }
    throw std::runtime_error("rows.csv: not a row: " + std::string(line));
}

inline PlanFile open_plan_file(const std::filesystem::path& folder) {
    const bool image = exists(folder / "pixels.f32");
    if (image == exists(folder / "tokens.i64")) {
        throw std::runtime_error(folder.string() + " holds not exactly one of tokens.i64 and pixels.f32");
    }
    PlanFile plan{Mapped(folder / (image ? "pixels.f32" : "tokens.i64")), image, {}};
    const std::size_t elements = plan.array.bytes() / (image ? sizeof(float) : sizeof(std::int64_t));
    std::ifstream file(folder / "rows.csv");
    std::string line;
    if (!std::getline(file, line) || line != "gap,offset,length") {
        throw std::runtime_error((folder / "rows.csv").string() + " does not begin with gap,offset,length");
    }
    while (std::getline(file, line)) {
        const Row row = parse_row(line);
        if (row.length == 0 || row.offset > elements || row.length > elements - row.offset) {
            throw std::runtime_error("row " + std::to_string(plan.rows.size()) + " of " + folder.string() + " ends outside its array");
        }
        plan.rows.push_back(row);
    }
    return plan;
}
