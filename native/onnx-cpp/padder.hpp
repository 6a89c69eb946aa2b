// Rows of a plan as one padded batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "plan_file.hpp"

// The tensors of one call. Text: `ids` and `mask` are rows × width, padded on the right, `mask` 1 on a row's own `lengths[row]` ids.
// Images: `pixels` are rows × width numbers (width = 3 × height × width of the picture); `ids` and `mask` are null.
struct Batch {
    const std::int64_t* ids;
    const std::int64_t* mask;
    const float* pixels;
    std::span<const std::size_t> lengths;
    std::size_t rows;
    std::size_t width;
};

// The reused buffers of one session. A single row is handed on as it lies in the plan, without a copy.
struct Padder {
    std::int64_t pad_id;
    std::vector<std::int64_t> ids{}, mask{}, ones{};
    std::vector<float> pixels{};
    std::vector<std::size_t> lengths{};

    // Makes room for batches of `most` of these rows, its pages touched, so that no buffer grows while requests are served.
    void reserve(Elements elements, std::span<const Row> rows, std::size_t most) {
        const std::size_t longest = std::ranges::max(rows, {}, &Row::length).length, room = longest * std::min(most, rows.size());
        const auto grow = [](auto& buffer, std::size_t size) { buffer.resize(std::max(buffer.size(), size)); };
        grow(lengths, std::min(most, rows.size()));
        if (elements.image) {
            if (most > 1) grow(pixels, room);
            return;
        }
        ones.resize(std::max(ones.size(), longest), 1);
        if (most > 1) {
            grow(ids, room);
            grow(mask, room);
        }
    }

    Batch batch(Elements elements, std::span<const Row> rows) {
        const Row first = rows.front();
        std::ranges::transform(rows, lengths.begin(), &Row::length);
        const std::span<const std::size_t> own(lengths.data(), rows.size());
        if (elements.image) return {nullptr, nullptr, joined_pixels(elements, rows), own, rows.size(), first.length};
        if (rows.size() == 1) return {elements.tokens() + first.offset, ones.data(), nullptr, own, 1, first.length};
        const std::size_t width = std::ranges::max(own);
        for (std::size_t row = 0; row < rows.size(); ++row) {
            const std::int64_t* const from = elements.tokens() + rows[row].offset;
            std::int64_t* const to = ids.data() + row * width;
            std::int64_t* const seen = mask.data() + row * width;
            std::fill(std::copy_n(from, rows[row].length, to), to + width, pad_id);
            std::fill(std::fill_n(seen, rows[row].length, 1), seen + width, 0);
        }
        return {ids.data(), mask.data(), nullptr, own, rows.size(), width};
    }

  private:
    const float* joined_pixels(Elements elements, std::span<const Row> rows) {
        if (rows.size() == 1) return elements.pixels() + rows.front().offset;
        for (float* to = pixels.data(); const Row& row : rows) {
            if (row.length != rows.front().length) throw std::runtime_error("images of different sizes cannot be one batch");
            to = std::copy_n(elements.pixels() + row.offset, row.length, to);
        }
        return pixels.data();
    }
};
