// The floor: the shared C++ loop with a session that does no work.
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "worker.hpp"

namespace {

// Vectors that are 1 at one index, which tells rows apart, and 0 elsewhere.
struct Marker {
    std::size_t dim;
    std::vector<float> vectors{};
    std::vector<std::size_t> ones{};

    std::span<const float> operator()(const Batch& batch) {
        for (const std::size_t one : ones) vectors[one] = 0;
        ones.clear();
        if (vectors.size() < batch.rows * dim) vectors.resize(batch.rows * dim);
        for (std::size_t row = 0; row < batch.rows; ++row) {
            ones.push_back(row * dim + (batch.ids ? token_index(batch, row) : pixel_index(batch, row)));
            vectors[ones.back()] = 1;
        }
        return std::span(vectors).first(batch.rows * dim);
    }

    // (first id + 31 × last own id + length) mod dim, never negative
    std::size_t token_index(const Batch& batch, std::size_t row) const {
        const std::int64_t* const ids = batch.ids + row * batch.width;
        const auto length = static_cast<std::int64_t>(batch.lengths[row]), size = static_cast<std::int64_t>(dim);
        const std::int64_t rest = (ids[0] + 31 * ids[length - 1] + length) % size;
        return static_cast<std::size_t>(rest < 0 ? rest + size : rest);
    }

    // the bits of the first float, mod dim
    std::size_t pixel_index(const Batch& batch, std::size_t row) const {
        return std::bit_cast<std::uint32_t>(batch.pixels[row * batch.width]) % dim;
    }
};

void check_knob(std::string_view key, std::string_view value) {
    if (key != "dim") throw Usage("--set " + std::string(key) + ": dim is the only key");
    at_least_one("--set dim", value);
}

Members version() {
    Members said;
    said.add("framework", "null-cpp");
    said.add("language", "cpp");
    said.add("runtime", "none");
    said.add("version", WORKER_VERSION);
    said.add("build", WORKER_BUILD);
    return said;
}

Loaded<Marker> load(const Options& options) {
    if (options.precision != "fp32") throw NotApplicable("precision " + options.precision + ": the null worker has fp32 only");
    const auto dim = number<std::size_t>(options.knob("dim").value_or("384")).value();
    Members settings;
    settings.add("precision", "fp32");
    settings.add("threads", options.threads);
    settings.add("dim", static_cast<long long>(dim));
    return {std::vector(static_cast<std::size_t>(options.sessions), Marker{dim}), dim, 32, 0, settings};
}

} // namespace

int main(int count, char** arguments) try {
    return run_worker(count, arguments, check_knob, version, load);
} catch (...) {
    return report_failure();
}
