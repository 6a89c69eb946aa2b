// The times and vectors of one slice, and the folder they are written to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

// When one request was due, taken and answered, in absolute ns. `end_ns` is 0 until it is answered.
struct Sample {
    std::int64_t due_ns, start_ns, end_ns;
};

// Samples and vectors of a slice, in plan order whatever session served them. The buffers are reused by the next slice.
struct Recorder {
    std::vector<Sample> samples{};
    std::vector<float> vectors{}; // at least rows × dim; what lies behind is of an earlier slice

    // Makes room for `rows` requests, before the first is served.
    void clear(std::size_t rows, std::size_t dim) {
        samples.assign(rows, Sample{});
        vectors.resize(std::max(vectors.size(), rows * dim));
    }

    std::size_t answered() const {
        return static_cast<std::size_t>(std::ranges::count_if(samples, [](const Sample& sample) { return sample.end_ns > 0; }));
    }

    // Writes the first `rows` rows as samples.csv, vectors.bin and slice.json into `out`, which appears whole or not at all.
    // `first` is the number of the first row in its plan.
    void write(const std::filesystem::path& out, std::size_t first, std::size_t rows, std::size_t dim, std::size_t batches) const {
        std::filesystem::path temporary = out;
        temporary += ".tmp";
        remove_all(temporary);
        create_directories(temporary);
        const auto write_file = [&](const char* name, const auto& body) {
            std::ofstream file(temporary / name, std::ios::binary);
            body(file);
            if (!file.flush()) throw std::runtime_error("cannot write " + (temporary / name).string());
        };
        write_file("samples.csv", [&](std::ostream& file) {
            file << "request,due_ns,start_ns,end_ns\n";
            std::size_t request = first;
            for (const Sample& sample : std::span(samples).first(rows)) {
                file << request++ << ',' << sample.due_ns << ',' << sample.start_ns << ',' << sample.end_ns << '\n';
            }
        });
        write_file("vectors.bin", [&](std::ostream& file) {
            const auto bytes = std::as_bytes(std::span(vectors).first(rows * dim));
            file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        });
        write_file("slice.json", [&](std::ostream& file) {
            file << "{\"rows\": " << rows << ", \"dim\": " << dim << ", \"dtype\": \"float32\", \"batches\": " << batches << "}\n";
        });
        rename(temporary, out);
    }
};
