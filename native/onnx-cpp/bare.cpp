// ONNX Runtime called in a plain loop, rows one at a time: what `invoke floor` holds onnx-cpp against. Nothing of its loop is used.
//
//     onnx-cpp-bare ARTEFACT_FOLDER THREADS
//
// says `ready {}`, then answers `loop PLAN FIRST COUNT` with `looped ELAPSED_NS`.
#include <dlfcn.h>
#include <time.h>
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void load_library() {
    const char* const path = std::getenv("ORT_DYLIB_PATH");
    void* const library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    void* const get_base = library ? dlsym(library, "OrtGetApiBase") : nullptr;
    if (!get_base) throw std::runtime_error("ORT_DYLIB_PATH does not name ONNX Runtime's library");
    Ort::InitApi(reinterpret_cast<const OrtApiBase* (*)()>(get_base)()->GetApi(std::min<std::uint32_t>(ORT_API_VERSION, 21)));
}

std::vector<std::vector<std::int64_t>> read_rows(const std::string& plan, std::size_t first, std::size_t count) {
    std::ifstream table(plan + "/rows.csv"), array(plan + "/tokens.i64", std::ios::binary);
    std::string header;
    std::getline(table, header);
    std::vector<std::vector<std::int64_t>> rows;
    double gap;
    std::size_t offset, length;
    char comma;
    for (std::size_t row = 0; row < first + count && table >> gap >> comma >> offset >> comma >> length; ++row) {
        if (row < first) continue;
        auto& ids = rows.emplace_back(length);
        array.seekg(static_cast<std::streamoff>(offset * sizeof(std::int64_t)));
        array.read(reinterpret_cast<char*>(ids.data()), static_cast<std::streamsize>(length * sizeof(std::int64_t)));
    }
    if (rows.size() != count || !array) throw std::runtime_error(plan + " has no such rows");
    return rows;
}

std::int64_t now_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

} // namespace

int main(int count, char** arguments) try {
    if (count != 3) throw std::runtime_error("usage: onnx-cpp-bare ARTEFACT_FOLDER THREADS");
    load_library();
    const Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "bare");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(std::stoi(arguments[2])).SetGraphOptimizationLevel(ORT_ENABLE_ALL);
    Ort::Session session(environment, (std::string(arguments[1]) + "/model.onnx").c_str(), options);
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    constexpr std::array inputs = {"input_ids", "attention_mask"};
    constexpr const char* output = "sentence_embedding";
    std::cout << "ready {}" << std::endl;
    std::string word, plan;
    for (std::size_t first, rows; std::cin >> word >> plan >> first >> rows && word == "loop";) {
        auto tokens = read_rows(plan, first, rows);
        const auto longest = std::ranges::max(tokens, {}, &std::vector<std::int64_t>::size).size();
        std::vector<std::int64_t> ones(longest, 1);
        const std::int64_t begin_ns = now_ns();
        for (auto& ids : tokens) {
            const std::array shape = {std::int64_t{1}, static_cast<std::int64_t>(ids.size())};
            const std::array values = {Ort::Value::CreateTensor<std::int64_t>(memory, ids.data(), ids.size(), shape.data(), shape.size()),
                                       Ort::Value::CreateTensor<std::int64_t>(memory, ones.data(), ids.size(), shape.data(), shape.size())};
            session.Run(Ort::RunOptions{nullptr}, inputs.data(), values.data(), values.size(), &output, 1);
        }
        std::cout << "looped " << now_ns() - begin_ns << std::endl;
    }
    return 0;
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
}
