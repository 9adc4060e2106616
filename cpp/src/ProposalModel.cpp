#include "ProposalModel.h"
#include "IterationNoise.h"
#include "RecordedFlow.h"
#include "Sha256.h"
#include "TorchConversions.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

// The contract's tolerances (docs/contract.md): log densities, and positions in nm.
static const double DENSITY_TOLERANCE = 1e-4;
static const double INVERTIBILITY_TOLERANCE = 1e-5;
// Invariance to translation can only be judged to the rounding of positions of 1 nm in single precision.
static const double TRANSLATION_TOLERANCE = 1e-4;
static const double TRANSLATION_DENSITY_TOLERANCE = 0.05;
static const int CHECK_BATCH = 8;

static torch::Dtype realType(const ModelMetadata& metadata) {
    return metadata.doublePrecision ? torch::kFloat64 : torch::kFloat32;
}

/**
 * Compute the log density of a standard normal distribution for each row, summed in double precision.
 */
static void standardNormalLogDensities(const Tensor& rows, vector<double>& densities) {
    Tensor values = rows.flatten(1);
    copyDoubles(at::linalg_vector_norm(values, 2, {1}, false, torch::kFloat64), densities);
    const float zero = 0;
    double largest = values.size(1) * standardNormalLogDensity(&zero, 1);
    for (double& norm : densities)
        norm = largest - 0.5 * norm * norm;
}

/**
 * The TorchScript module, and the calls of the contract with their results checked.
 */
class ProposalModel::Implementation {
public:
    Implementation(const string& path, const string& content, ModelMetadata& metadata)
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
        real = realType(metadata);
        for (const char* method : {"sample", "log_prob", "invert"})
            if (!module.find_method(method))
                fail(string("it has no method ") + method);
        check(metadata);
    }

    /** Where the module runs, and the results of sample() are. */
    torch::Device getDevice() const {
        return device;
    }

    void moveTo(torch::Device newDevice, const string& content) {
        if (newDevice == device)
            return;

        // Module::to() would not move the weights of a frozen module, which are constants.

        torch::jit::ExtraFilesMap none;
        load(content, newDevice, none);
    }

    void setGraphRecorder(unique_ptr<TimewarpGraphRecorder> newRecorder) {
        graphs.clear();
        recorder = move(newRecorder);
    }

    bool usesGraphs() const {
        return recorder != nullptr;
    }

    ProposalInputs prepareInputs(int64_t size, int64_t numAtoms) {
        if (!inputs.x.defined() || inputs.x.size(0) != numAtoms || inputs.v.size(0) < size) {
            auto options = torch::TensorOptions(device).dtype(real);
            inputs.x = torch::zeros({numAtoms, 3}, options);
            inputs.v = torch::zeros({size, numAtoms, 3}, options);
            inputs.noise = torch::zeros({size, noiseSize}, options);
        }
        ProposalInputs memory;
        memory.size = size;
        memory.capacity = inputs.v.size(0);
        memory.numAtoms = numAtoms;
        memory.noiseSize = noiseSize;
        memory.isDouble = (real == torch::kFloat64);
        memory.onDevice = device.is_cuda();
        memory.positions = inputs.x.data_ptr();
        memory.velocities = inputs.v.data_ptr();
        memory.noise = inputs.noise.data_ptr();
        return memory;
    }

    void setState(const vector<Vec3>& x) {
        inputs.x.copy_(positionsTensor(x, real));
    }

    /** Keep the results of a batch, whose memory others may use until the next. */
    void keep(const FlowOutputs& results) {
        outputs = results;
    }

    void getVelocities(int64_t entry, vector<float>& velocities) const {
        Tensor row = outputs.w[entry].flatten().to(torch::kCPU, torch::kFloat32);
        velocities.assign(row.data_ptr<float>(), row.data_ptr<float>() + row.numel());
    }

    /** The inputs of a batch, with the lag times of its proposals. */
    FlowInputs getInputs(const vector<double>& lags) const {
        int64_t size = lags.size();
        return {inputs.x, inputs.v.narrow(0, 0, size), inputs.noise.narrow(0, 0, size),
                doubleTensor(lags, real)};
    }

    /** Call sample(x, noise, lag). */
    void sample(const Tensor& x, const Tensor& noise, const Tensor& lag, Tensor& y, Tensor& w, Tensor& logq) {
        auto result = call("sample", {x.to(device), noise.to(device), lag.to(device)});
        if (!result.isTuple() || result.toTupleRef().elements().size() != 3)
            fail("sample does not return a tuple (y, w, log_q)");
        const auto& elements = result.toTupleRef().elements();
        int64_t batch = noise.size(0);
        y = checked(elements[0], "y of sample", {batch, x.size(0), 3}, real);
        w = checked(elements[1], "w of sample", {batch, x.size(0), 3}, real);
        logq = checked(elements[2], "log_q of sample", {batch}, torch::kFloat64);
    }

    /** Call log_prob(y, w, x, lag). */
    Tensor logProb(const Tensor& y, const Tensor& w, const Tensor& x, const Tensor& lag) {
        auto result = call("log_prob", {y.to(device), w.to(device), x.to(device), lag.to(device)});
        return checked(result, "log_prob", {y.size(0)}, torch::kFloat64);
    }

    /**
     * Make proposals with their densities, and those of the way back for the given rows.
     */
    FlowOutputs propose(const FlowInputs& in, const Tensor& rows) {
        FlowOutputs out = evaluate(in, false);
        if (rows.size(0) == 0)
            return out;
        Tensor chosen = rows.to(device);
        Tensor back = in.x.unsqueeze(0).expand({rows.size(0), in.x.size(0), 3});
        out.logReverse =
                torch::full({in.lag.size(0)}, numeric_limits<double>::quiet_NaN(),
                            torch::TensorOptions().dtype(torch::kFloat64).device(device))
                        .index_copy_(0, chosen,
                                     logProb(back, in.v.index_select(0, chosen),
                                             out.y.index_select(0, chosen), in.lag.index_select(0, rows)));
        return out;
    }

    /**
     * As propose() for all rows or none, by a graph that is recorded when it is needed for the first time.
     */
    const FlowOutputs& replay(const FlowInputs& in, bool reverse, const vector<double>& lagTimes) {
        unique_ptr<RecordedFlow>& flow = graphs[{in.lag.size(0), reverse}];
        if (flow == nullptr)
            flow = recordedFlow(in, reverse, lagTimes);
        return flow->run(in);
    }

    /** Call invert(y, w, x, lag). */
    Tensor invert(const Tensor& y, const Tensor& w, const Tensor& x, const Tensor& lag) {
        return checked(call("invert", {y, w, x, lag}), "invert", {y.size(0), noiseSize}, real);
    }

    /** Throw an exception if w or densities change when x is moved, or y does not move along. */
    void checkTranslationInvariance(const vector<Vec3>& state, const vector<Vec3>& shifts,
                                    const ModelMetadata& metadata) {
        torch::InferenceMode inference;
        Tensor x = positionsTensor(state, real), noise = checkNoise();
        x = x - x.mean(0, true);
        Tensor shift = positionsTensor(shifts, real);
        for (double time : metadata.lagTimes) {
            Tensor lag = torch::full({CHECK_BATCH}, time, real);
            Tensor y, w, logq, y2, w2, logq2;
            sample(x, noise, lag, y, w, logq);
            sample(x + shift, noise, lag, y2, w2, logq2);
            for (Tensor* result : {&y, &w, &logq, &y2, &w2, &logq2})
                *result = result->to(torch::kCPU);
            Tensor back = logProb(y2, w2, (x + shift).unsqueeze(0), lag).to(torch::kCPU);
            for (const Tensor& change : {(y2 - y - shift).flatten(1), (w2 - w).flatten(1)})
                requireInvariance(change, TRANSLATION_TOLERANCE);
            for (const Tensor& change : {logq2 - logq, back - logq})
                requireInvariance(change, TRANSLATION_DENSITY_TOLERANCE);
        }
    }

private:
    void load(const string& content, torch::Device newDevice, torch::jit::ExtraFilesMap& extra) {
        graphs.clear();
        inputs = {};
        outputs = {};
        istringstream file(content);
        module = torch::jit::load(file, newDevice, extra);
        module.eval();
        device = newDevice;
    }

    FlowOutputs evaluate(const FlowInputs& in, bool reverse) {
        FlowOutputs out;
        sample(in.x, in.noise, in.lag, out.y, out.w, out.logForward);
        if (reverse)
            out.logReverse = logProb(in.x.unsqueeze(0).expand_as(out.y), in.v, out.y, in.lag);
        return out;
    }

    /**
     * Record a graph, and compare it with the model's own results for two different inputs.
     */
    unique_ptr<RecordedFlow> recordedFlow(const FlowInputs& in, bool reverse,
                                          const vector<double>& lagTimes) {
        const string remedy = "; call setUseCudaGraphs(False) before the Context is created";
        unique_ptr<RecordedFlow> flow;
        try {
            flow = make_unique<RecordedFlow>(
                    *recorder, device, in,
                    [this, reverse](const FlowInputs& inputs) { return evaluate(inputs, reverse); });
        }
        catch (const exception& error) {
            throw OpenMMException("Timewarp: the model " + path +
                                  " cannot be recorded as a CUDA graph, for which it must not wait for the "
                                  "GPU nor decide by the values of tensors" +
                                  remedy + ". " + error.what());
        }
        for (const FlowInputs& inputs : {in, otherInputs(in, lagTimes)}) {
            string difference = flow->findDifference(inputs, INVERTIBILITY_TOLERANCE, DENSITY_TOLERANCE);
            if (!difference.empty())
                throw OpenMMException("Timewarp: a CUDA graph of the model " + path +
                                      " gives other results than the model itself: " + difference +
                                      " (tolerance 1e-5 for y and w, 1e-4 for log densities)" + remedy);
        }
        return flow;
    }

    void requireInvariance(const Tensor& change, double tolerance) const {
        // What is not finite is rejected wherever it is.
        Tensor finite = change.index({change.isfinite()}).abs();
        if (finite.numel() > 0 && !(finite.max().item<double>() <= tolerance))
            throw OpenMMException(
                    "Timewarp: the System has periodic boundary conditions, but proposals of the model " +
                    path +
                    " depend on where its molecules lie, so that periodic images of one state would be "
                    "different states; use a model that is invariant to the translation of each molecule "
                    "(one "
                    "of a single molecule in internal coordinates is), or build the System without periodic "
                    "boundary conditions");
    }

    [[noreturn]] void fail(const string& what) const {
        throw OpenMMException("Timewarp: the model " + path + " does not honour the model contract: " + what +
                              "; see docs/contract.md");
    }

    c10::IValue call(const char* method, vector<c10::IValue> arguments) {
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

    Tensor checked(const c10::IValue& value, const char* what, torch::IntArrayRef shape,
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

    /**
     * Check on one small batch that the densities agree and the flow can be inverted.
     */
    void check(const ModelMetadata& metadata) {
        if (metadata.referencePositions.empty())
            return;
        torch::InferenceMode inference;
        Tensor x = positionsTensor(metadata.referencePositions, real);
        Tensor noise = checkNoise();
        for (double time : metadata.lagTimes) {
            Tensor lag = torch::full({CHECK_BATCH}, time, real);
            Tensor y, w, logq;
            sample(x, noise, lag, y, w, logq);
            // What is not finite is rejected by the chain, so it need not agree with anything.
            Tensor finite = y.isfinite().flatten(1).all(1) & w.isfinite().flatten(1).all(1) & logq.isfinite();
            if (!finite.any().item<bool>())
                continue;
            y = y.index({finite});
            w = w.index({finite});
            lag = lag.index({finite});
            checkDensity(logProb(y, w, x.unsqueeze(0), lag), logq.index({finite}), time);
            checkInvertibility(x, invert(y, w, x.unsqueeze(0), lag), lag, y, time);
            if (isinf(time))
                checkIndependence(x, noise, finite, y, logq.index({finite}), time);
            if (!metadata.auxiliaryVelocities)
                checkSeparateVelocities(x, noise, time);
        }
    }

    Tensor checkNoise() const {
        Tensor noise = torch::empty({CHECK_BATCH, noiseSize}, torch::kFloat32);
        IterationNoise(1, 0).normal(noise.data_ptr<float>(), noise.numel());
        return noise.to(real);
    }

    void checkDensity(const Tensor& logProbability, const Tensor& logq, double time) const {
        double difference = (logProbability - logq).abs().max().item<double>();
        if (!(difference <= DENSITY_TOLERANCE))
            report("log_prob of its own samples differs from their log_q by", difference, DENSITY_TOLERANCE,
                   time);
    }

    void checkInvertibility(const Tensor& x, const Tensor& noise, const Tensor& lag, const Tensor& y,
                            double time) {
        Tensor again, w, logq;
        sample(x, noise, lag, again, w, logq);
        double difference = (again - y).abs().max().item<double>();
        if (!(difference <= INVERTIBILITY_TOLERANCE))
            report("sample(x, invert(y, w, x)) differs from y (in nm) by", difference,
                   INVERTIBILITY_TOLERANCE, time);
    }

    void checkIndependence(const Tensor& x, const Tensor& noise, const Tensor& finite, const Tensor& y,
                           const Tensor& logq, double time) {
        // Axes exchanged (a rotation) and stretched; an independent draw must not notice, beyond its frame in
        // space.
        Tensor other = x.index_select(1, torch::tensor({1, 2, 0})) * 1.1;
        Tensor lag = torch::full({CHECK_BATCH}, time, real);
        Tensor y2, w2, logq2;
        sample(other, noise, lag, y2, w2, logq2);
        y2 = y2.index({finite});
        double difference = (pairDistances(y) - pairDistances(y2)).abs().max().item<double>();
        if (!(difference <= INVERTIBILITY_TOLERANCE))
            report("at an infinite lag time its samples depend on x; interatomic distances (in nm) change by",
                   difference, INVERTIBILITY_TOLERANCE, time);
        difference = (logq - logq2.index({finite})).abs().max().item<double>();
        if (!(difference <= DENSITY_TOLERANCE))
            report("at an infinite lag time its density depends on x; log_q changes by", difference,
                   DENSITY_TOLERANCE, time);
    }

    void checkSeparateVelocities(const Tensor& x, const Tensor& noise, double time) {
        Tensor lag = torch::full({CHECK_BATCH}, time, real);
        Tensor y, w, logq;
        sample(x, noise, lag, y, w, logq);
        Tensor zero = torch::zeros_like(w);
        Tensor expected = logq + 0.5 * w.to(torch::kFloat64).square().sum({1, 2});
        Tensor difference = logProb(y, zero, x.unsqueeze(0), lag) - expected;
        difference = difference.index({difference.isfinite()}).abs();
        if (difference.numel() > 0 && !(difference.max().item<double>() <= DENSITY_TOLERANCE))
            report("it states auxiliary_velocities = false but its density is not that of y times N(w; 0, "
                   "I), by",
                   difference.max().item<double>(), DENSITY_TOLERANCE, time);
    }

    static Tensor pairDistances(const Tensor& y) {
        return (y.unsqueeze(1) - y.unsqueeze(2)).square().sum(-1).sqrt();
    }

    [[noreturn]] void report(const string& what, double difference, double tolerance, double time) const {
        stringstream message;
        message << what << " " << difference << " at lag time " << time << " ps (tolerance " << tolerance
                << ")";
        fail(message.str());
    }

    string path;
    int noiseSize;
    torch::Dtype real;
    torch::Device device;
    torch::jit::Module module;
    /** Without lag times, and with room for the largest batch so far. */
    FlowInputs inputs;
    /** Of the last batch. */
    FlowOutputs outputs;
    unique_ptr<TimewarpGraphRecorder> recorder;
    /** By batch size, and whether they compute the densities of the way back. */
    map<pair<int64_t, bool>, unique_ptr<RecordedFlow>> graphs;
};

static string readFile(const string& path) {
    ifstream file(path, ios::binary);
    stringstream content;
    if (file)
        content << file.rdbuf();
    if (!file || !content)
        throw OpenMMException("Timewarp: cannot open the model file " + path + "; check the path");
    return content.str();
}

ProposalModel::ProposalModel(const string& path) : ProposalModel(path, readFile(path)) {
}

ProposalModel::ProposalModel(const string& name, const string& content)
        : content(content), digest(sha256(content)) {
    implementation = make_unique<Implementation>(name, content, metadata);
}

ProposalModel::~ProposalModel() {
}

const ModelMetadata& ProposalModel::getMetadata() const {
    return metadata;
}

const string& ProposalModel::getContent() const {
    return content;
}

const string& ProposalModel::getSha256() const {
    return digest;
}

void ProposalModel::useDevice(int index) {
    implementation->moveTo(torchDevice(index), content);
}

string ProposalModel::getDevice() const {
    return implementation->getDevice().str();
}

void ProposalModel::setGraphRecorder(unique_ptr<TimewarpGraphRecorder> recorder) {
    implementation->setGraphRecorder(move(recorder));
}

bool ProposalModel::usesGraphs() const {
    return implementation->usesGraphs();
}

void ProposalModel::checkTranslationInvariance(const vector<Vec3>& x, const vector<Vec3>& shifts) {
    implementation->checkTranslationInvariance(x, shifts, metadata);
}

bool ProposalModel::isIndependentDraw(double lag) const {
    return isinf(lag) && !metadata.auxiliaryVelocities;
}

ProposalInputs ProposalModel::prepareInputs(int size, int numAtoms) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->getDevice());
    return implementation->prepareInputs(size, numAtoms);
}

void ProposalModel::setState(const vector<Vec3>& x) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->getDevice());
    implementation->setState(x);
}

void ProposalModel::propose(const vector<double>& lags, ProposalBatch& batch) {
    torch::InferenceMode inference;
    torch::Device device = implementation->getDevice();
    OnDefaultStream stream(device);
    int64_t size = lags.size();
    FlowInputs inputs = implementation->getInputs(lags);

    // The way back from an independent draw does not depend on it, so its density is not needed here.

    conditional.clear();
    for (int64_t i = 0; i < size; i++)
        if (!isIndependentDraw(lags[i]))
            conditional.push_back(i);
    Tensor rows = at::from_blob(conditional.data(), {(int64_t)conditional.size()}, torch::kInt64);
    FlowOutputs out = usesGraphs() ? implementation->replay(inputs, !conditional.empty(), metadata.lagTimes)
                                   : implementation->propose(inputs, rows);
    Tensor finite = (out.y.isfinite() & out.w.isfinite()).flatten(1).all(1).to(torch::kCPU);
    batch.size = size;
    batch.isFinite.assign(finite.data_ptr<bool>(), finite.data_ptr<bool>() + size);
    if (device.is_cuda()) {
        batch.positions.clear();
        batch.onDevice = {out.y.data_ptr(), out.y.scalar_type() == torch::kFloat64};
    }
    else {
        batch.onDevice = {};
        copyDoubles(out.y, batch.positions);
    }
    implementation->keep(out);
    copyDoubles(out.logForward, batch.logForward);
    standardNormalLogDensities(out.w, batch.logVelocities);
    if (out.logReverse.defined()) {
        copyDoubles(out.logReverse, batch.logReverse);
        standardNormalLogDensities(inputs.v, batch.logAuxiliary);
    }
    else {
        batch.logReverse.assign(size, numeric_limits<double>::quiet_NaN());
        batch.logAuxiliary.assign(size, numeric_limits<double>::quiet_NaN());
    }
}

void ProposalModel::getVelocities(int entry, vector<float>& velocities) const {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->getDevice());
    implementation->getVelocities(entry, velocities);
}

double ProposalModel::independentLogDensity(const vector<Vec3>& x) {
    torch::InferenceMode inference;
    torch::Dtype type = realType(metadata);
    Tensor state = positionsTensor(x, type).unsqueeze(0);
    Tensor velocities = torch::zeros_like(state);
    Tensor lag = torch::full({1}, numeric_limits<double>::infinity(), type);
    const float zero = 0;
    double logVelocities = 3 * x.size() * standardNormalLogDensity(&zero, 1);
    return implementation->logProb(state, velocities, state, lag).item<double>() - logVelocities;
}
