#include "FlowModule.h"
#include "TorchConversions.h"
#include "openmm/OpenMMException.h"
#include <sstream>
#include <torch/csrc/jit/runtime/graph_executor.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

FlowModule::FlowModule(const string& path, const string& content, ModelMetadata& metadata)
        : path(path), noiseSize(0), real(torch::kFloat32), device(torch::kCPU) {
    torch::jit::ExtraFilesMap extra{{ModelMetadata::fileName, ""}};
    try {
        load(content, torch::kCPU, extra);
    }
    catch (const exception& error) {
        throw OpenMMException("Timewarp: " + path +
                              " is not a TorchScript model, or is damaged: " + firstLine(error.what()));
    }
    const string& text = extra[ModelMetadata::fileName];
    if (text.empty())
        throw OpenMMException("Timewarp: " + path + " is a TorchScript file without " +
                              ModelMetadata::fileName +
                              ", so it is not a proposal model; export it with "
                              "timewarp_openmm.flows.export_model");
    metadata = ModelMetadata::parse(text, path);
    noiseSize = metadata.noiseSize;
    real = metadata.doublePrecision ? torch::kFloat64 : torch::kFloat32;
    for (const char* method : {"sample", "log_prob", "invert"})
        if (!module.find_method(method))
            fail(string("it has no method ") + method);
}

void FlowModule::moveTo(torch::Device newDevice, const string& content) {
    if (newDevice == device)
        return;

    // Module::to() would not move the weights of a frozen module, which are constants.

    torch::jit::ExtraFilesMap none;
    load(content, newDevice, none);
}

void FlowModule::load(const string& content, torch::Device newDevice, torch::jit::ExtraFilesMap& extra) {
    istringstream file(content);
    module = torch::jit::load(file, newDevice, extra);
    module.eval();
    device = newDevice;
}

void FlowModule::fail(const string& what) const {
    throw OpenMMException("Timewarp: the model " + path + " does not honour the model contract: " + what +
                          "; see docs/contract.md");
}

c10::IValue FlowModule::call(const char* method, vector<c10::IValue> arguments) {
    // The interpreter without its optimiser: that one rewrites the graph after a few calls, and the
    // rounding of a resumed run would differ from that of an uninterrupted one.
    torch::jit::GraphOptimizerEnabledGuard noOptimizer(false);
    try {
        return module.get_method(method)(move(arguments));
    }
    catch (const exception& error) {
        throw OpenMMException("Timewarp: " + string(method) + " of the model " + path +
                              " failed: " + error.what());
    }
}

Tensor FlowModule::checked(const c10::IValue& value, const char* what, torch::IntArrayRef shape,
                           torch::Dtype type) const {
    if (!value.isTensor())
        fail(string(what) + " is not a tensor");
    Tensor tensor = value.toTensor();
    if (tensor.sizes() != shape || tensor.scalar_type() != type) {
        stringstream message;
        message << what << " has shape " << tensor.sizes() << " and type " << tensor.scalar_type()
                << ", expected " << shape << " and " << type;
        fail(message.str());
    }
    return tensor.contiguous();
}

void FlowModule::sample(const Tensor& x, const Tensor& noise, const Tensor& lag, Tensor& y, Tensor& w,
                        Tensor& logq) {
    auto result = call("sample", {x.to(device), noise.to(device), lag.to(device)});
    if (!result.isTuple() || result.toTupleRef().elements().size() != 3)
        fail("sample does not return a tuple (y, w, log_q)");
    const auto& elements = result.toTupleRef().elements();
    int64_t batch = noise.size(0);
    y = checked(elements[0], "y of sample", {batch, x.size(0), 3}, real);
    w = checked(elements[1], "w of sample", {batch, x.size(0), 3}, real);
    logq = checked(elements[2], "log_q of sample", {batch}, torch::kFloat64);
}

Tensor FlowModule::logProb(const Tensor& y, const Tensor& w, const Tensor& x, const Tensor& lag) {
    auto result = call("log_prob", {y.to(device), w.to(device), x.to(device), lag.to(device)});
    return checked(result, "log_prob", {y.size(0)}, torch::kFloat64);
}

Tensor FlowModule::invert(const Tensor& y, const Tensor& w, const Tensor& x, const Tensor& lag) {
    return checked(call("invert", {y, w, x, lag}), "invert", {y.size(0), noiseSize}, real);
}
