// A file that parent and worker map: the rows of one `embed` line, and the place for their vectors.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "plan_file.hpp"

// The rows of one `embed` line, as they lie in the memory, and the place for their vectors.
struct SharedRows {
    std::span<float> vectors; // rows × dim
    std::vector<Row> rows;
    Elements elements;
};

// The whole file, mapped for reading and writing. Its parts are vectors (rows × dim float32, rounded up to 8 bytes), lengths (int64), elements.
class SharedMemory {
  public:
    explicit SharedMemory(const std::filesystem::path& path) {
        const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
        if (file < 0) throw std::system_error(errno, std::generic_category(), path.string());
        struct stat status {};
        const bool sized = fstat(file, &status) == 0 && status.st_size > 0;
        bytes_ = sized ? static_cast<std::size_t>(status.st_size) : 0;
        void* const at = sized ? mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
        close(file);
        if (at == MAP_FAILED) throw std::runtime_error(path.string() + " is empty or cannot be mapped");
        data_ = static_cast<std::byte*>(at);
    }
    SharedMemory(SharedMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    SharedMemory& operator=(SharedMemory&&) = delete;
    ~SharedMemory() {
        if (data_) munmap(data_, bytes_);
    }

    SharedRows rows(bool image, std::size_t count, std::size_t dim) const {
        if (count > bytes_ / (dim * sizeof(float) + sizeof(std::int64_t))) throw short_of(count);
        const std::size_t numbers = count * dim, vectors_end = (numbers * sizeof(float) + 7) / 8 * 8;
        const std::size_t lengths_end = vectors_end + count * sizeof(std::int64_t);
        if (lengths_end > bytes_) throw short_of(count);
        const std::size_t room = (bytes_ - lengths_end) / (image ? sizeof(float) : sizeof(std::int64_t));
        const std::span lengths(reinterpret_cast<const std::int64_t*>(data_ + vectors_end), count);
        const std::byte* const elements = data_ + lengths_end;
        SharedRows shared{{reinterpret_cast<float*>(data_), numbers}, {}, {elements, image}};
        std::size_t offset = 0;
        for (const std::int64_t length : lengths) {
            if (length < 1) throw std::runtime_error("a row has no elements");
            if (static_cast<std::size_t>(length) > room - offset) throw short_of(count);
            shared.rows.push_back({0, offset, static_cast<std::size_t>(length)});
            offset += static_cast<std::size_t>(length);
        }
        return shared;
    }

  private:
    std::runtime_error short_of(std::size_t rows) const {
        return std::runtime_error(std::to_string(rows) + " rows do not fit " + std::to_string(bytes_) + " bytes of shared memory");
    }

    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
};
