// ONNX Runtime through its official C++ API: everything as the runtime sets it, but for the thread count and the knobs that are asked for.
#include <dlfcn.h>
#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "worker.hpp"

namespace {

constexpr const char* output_name = "sentence_embedding";
constexpr const char* re_export = "export the model again with `invoke export`";

// From API 22 on a session sets an execution-provider selection policy that Python's does not.
constexpr std::uint32_t api_version = std::min<std::uint32_t>(ORT_API_VERSION, 21);

struct Library {
    std::string path;
    std::string version;
};

// Loads the library that ORT_DYLIB_PATH names, for the life of the process.
Library load_library() {
    const std::string cure = "set ORT_DYLIB_PATH to the libonnxruntime.so.1.* in the capi folder of the installed onnxruntime package";
    const char* const path = std::getenv("ORT_DYLIB_PATH");
    if (!path) throw Unable("ORT_DYLIB_PATH is not set", cure);
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) throw Unable(dlerror(), cure);
    const auto get_base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
    if (!get_base) throw Unable(std::string(path) + " is not ONNX Runtime", cure);
    const OrtApi* const api = get_base()->GetApi(api_version);
    if (!api) throw Unable(std::string(path) + " does not speak API version " + std::to_string(api_version), cure);
    Ort::InitApi(api);
    return {path, get_base()->GetVersionString()};
}

// The output tensor, in the runtime's own memory.
struct Vectors {
    Ort::Value value;
    std::size_t size;

    operator std::span<const float>() const { return {value.GetTensorData<float>(), size}; }
};

// One session of the runtime. Inputs are views: of the mapped plan for a single row, of the padder's buffers for a batch.
struct Graph {
    std::shared_ptr<Ort::Env> environment;
    std::shared_ptr<Ort::Session> session; // of several callers where the knob `shared` says so
    std::array<std::int64_t, 2> image; // height and width; 0 for text
    bool takes_mask;
    Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);

    Vectors operator()(const Batch& batch) {
        const auto rows = static_cast<std::int64_t>(batch.rows), width = static_cast<std::int64_t>(batch.width);
        if ((image[0] > 0) == (batch.ids != nullptr)) throw std::runtime_error("the plan's kind of input is not the graph's");
        std::vector<Ort::Value> output;
        if (batch.ids) {
            const std::array shape = {rows, width};
            const auto view = [&](const std::int64_t* ids) {
                return Ort::Value::CreateTensor<std::int64_t>(memory, const_cast<std::int64_t*>(ids), batch.rows * batch.width, shape.data(), shape.size());
            };
            constexpr std::array names = {"input_ids", "attention_mask"};
            const std::array inputs = {view(batch.ids), view(batch.mask)};
            output = session->Run(Ort::RunOptions{nullptr}, names.data(), inputs.data(), takes_mask ? 2 : 1, &output_name, 1);
        } else {
            if (width != 3 * image[0] * image[1]) throw std::runtime_error("the plan's images are not of the graph's size");
            const std::array shape = {rows, std::int64_t{3}, image[0], image[1]};
            constexpr const char* name = "pixel_values";
            const auto input = Ort::Value::CreateTensor<float>(memory, const_cast<float*>(batch.pixels), batch.rows * batch.width, shape.data(), shape.size());
            output = session->Run(Ort::RunOptions{nullptr}, &name, &input, 1, &output_name, 1);
        }
        const std::size_t size = output.front().GetTensorTypeAndShapeInfo().GetElementCount();
        return {std::move(output.front()), size};
    }
};

// What a graph takes or gives under one name.
struct Port {
    std::string name;
    ONNXTensorElementDataType type;
    std::vector<std::int64_t> shape; // a free dimension is -1
};

std::vector<Port> ports(const Ort::Session& session, bool inputs) {
    const Ort::AllocatorWithDefaultOptions allocator;
    std::vector<Port> found;
    for (std::size_t place = 0; place < (inputs ? session.GetInputCount() : session.GetOutputCount()); ++place) {
        const auto name = inputs ? session.GetInputNameAllocated(place, allocator) : session.GetOutputNameAllocated(place, allocator);
        const auto type = inputs ? session.GetInputTypeInfo(place) : session.GetOutputTypeInfo(place);
        const auto tensor = type.GetTensorTypeAndShapeInfo();
        found.push_back({name.get(), tensor.GetElementType(), tensor.GetShape()});
    }
    return found;
}

const Port* find(std::span<const Port> ports, std::string_view name) {
    const auto found = std::ranges::find(ports, name, &Port::name);
    return found == ports.end() ? nullptr : &*found;
}

std::string type_name(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "f32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return "f16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16: return "bf16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return "i64";
        default: return "type " + std::to_string(type);
    }
}

long long tasks() {
    const std::filesystem::directory_iterator threads("/proc/self/task");
    return std::distance(begin(threads), end(threads));
}

struct Level {
    std::string_view value; // of the knob `optimization`
    GraphOptimizationLevel level;
    const char* name; // as Python's extension has it
};

constexpr std::array levels = {Level{"disabled", ORT_DISABLE_ALL, "ORT_DISABLE_ALL"}, Level{"basic", ORT_ENABLE_BASIC, "ORT_ENABLE_BASIC"},
                               Level{"extended", ORT_ENABLE_EXTENDED, "ORT_ENABLE_EXTENDED"}, Level{"all", ORT_ENABLE_ALL, "ORT_ENABLE_ALL"}};
constexpr std::array<std::string_view, 4> switches = {"spinning", "arena", "mem_pattern", "shared"};

// The level that is asked for; `all` is Python's default.
const Level& level_of(const Options& options) {
    return *std::ranges::find(levels, options.knob("optimization").value_or("all"), &Level::value);
}

std::shared_ptr<Ort::Session> open_session(const Ort::Env& environment, const Options& options) {
    const auto path = options.model / "model.onnx";
    if (!is_regular_file(path)) throw Unable(path.string() + " is missing", re_export);
    // one inter-op thread and sequential execution are the runtime's own, said aloud
    Ort::SessionOptions wanted;
    wanted.SetGraphOptimizationLevel(level_of(options).level).SetExecutionMode(ORT_SEQUENTIAL);
    wanted.SetIntraOpNumThreads(options.threads).SetInterOpNumThreads(1);
    if (const auto spinning = options.knob("spinning")) wanted.AddConfigEntry("session.intra_op.allow_spinning", spinning->c_str());
    if (const auto arena = options.knob("arena")) arena == "1" ? wanted.EnableCpuMemArena() : wanted.DisableCpuMemArena();
    if (const auto pattern = options.knob("mem_pattern")) pattern == "1" ? wanted.EnableMemPattern() : wanted.DisableMemPattern();
    try {
        return std::make_shared<Ort::Session>(environment, path.c_str(), wanted);
    } catch (const Ort::Exception& error) {
        throw Unable(path.string() + " cannot be loaded (" + error.what() + ")", re_export);
    }
}

// A converted graph says in its metadata what its census found; the plain export says nothing.
std::string precision_of(const Ort::Session& session) {
    Ort::AllocatorWithDefaultOptions allocator;
    const auto stated = session.GetModelMetadata().LookupCustomMetadataMapAllocated("precision", allocator);
    return stated ? stated.get() : "fp32";
}

Loaded<Graph> load(const Options& options) {
    load_library();
    const auto environment = std::make_shared<Ort::Env>(ORT_LOGGING_LEVEL_WARNING, "onnx-cpp");
    const long long tasks_before = tasks();
    const auto first = open_session(*environment, options);
    // a session adds all its threads but the one that calls it; the C API has no other way to read the number back
    const long long threads = tasks() - tasks_before + 1;

    const std::string precision = precision_of(*first);
    if (precision != options.precision) throw NotApplicable("precision " + options.precision + ": the graph is " + precision);

    const auto inputs = ports(*first, true), outputs = ports(*first, false);
    const Port* const output = find(outputs, output_name);
    const Port* const ids = find(inputs, "input_ids");
    const Port* const pixels = find(inputs, "pixel_values");
    if (!output || output->shape.size() != 2 || output->shape[1] < 1 || !ids == !pixels || (pixels && pixels->shape.size() != 4)) {
        throw Unable((options.model / "model.onnx").string() + " is not one of our graphs", re_export);
    }
    if (output->type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) throw NotApplicable("the graph's output is " + type_name(output->type) + ", not f32");

    Members settings;
    settings.add("precision", precision);
    settings.add("threads", threads);
    for (const Port& port : inputs) settings.add("input_" + port.name, type_name(port.type));
    for (const Port& port : outputs) settings.add("output_" + port.name, type_name(port.type));
    settings.add("graph_optimization_level", level_of(options).name);
    settings.add("execution_mode", "ORT_SEQUENTIAL");

    const auto dim = static_cast<std::size_t>(output->shape[1]);
    const std::array<std::int64_t, 2> image = {pixels ? pixels->shape[2] : 0, pixels ? pixels->shape[3] : 0};
    const bool takes_mask = find(inputs, "attention_mask");
    std::vector<Graph> graphs;
    graphs.push_back({environment, first, image, takes_mask});
    const bool shared = options.knob("shared") == "1";
    while (graphs.size() < static_cast<std::size_t>(options.sessions)) {
        graphs.push_back({environment, shared ? first : open_session(*environment, options), image, takes_mask});
    }
    const std::int64_t fixed = ids && ids->shape.size() == 2 && ids->shape[1] > 0 ? ids->shape[1] : 32;
    return {std::move(graphs), dim, ids ? static_cast<std::size_t>(fixed) : 0, static_cast<std::size_t>(3 * image[0] * image[1]), settings};
}

void check_knob(std::string_view key, std::string_view value) {
    if (key == "optimization") {
        if (std::ranges::find(levels, value, &Level::value) == levels.end()) throw Usage("--set optimization=" + std::string(value) + ": disabled, basic, extended or all is wanted");
    } else if (std::ranges::find(switches, key) == switches.end()) {
        throw Usage("--set " + std::string(key) + ": the keys are spinning, arena, mem_pattern, optimization and shared");
    } else if (value != "0" && value != "1") {
        throw Usage("--set " + std::string(key) + "=" + std::string(value) + ": 0 or 1 is wanted");
    }
}

Members version() {
    const Library library = load_library();
    const Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "onnx-cpp");
    Members said;
    said.add("framework", "onnx-cpp");
    said.add("language", "cpp");
    said.add("runtime", "onnxruntime");
    said.add("version", library.version);
    said.add("build", one_line(std::string(WORKER_BUILD) + ", headers of API " + std::to_string(ORT_API_VERSION) + ", asks for " + std::to_string(api_version) +
                               "; " + library.path + ": " + Ort::GetBuildInfoString()));
    return said;
}

} // namespace

int main(int count, char** arguments) try {
    return run_worker(count, arguments, check_knob, version, load);
} catch (...) {
    return report_failure();
}
