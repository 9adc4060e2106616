#include "ContractChecks.h"
#include "IterationNoise.h"
#include "TorchConversions.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

// Invariance to translation can only be judged to the rounding of positions of 1 nm in single precision.
static const double TRANSLATION_TOLERANCE = 1e-4;
static const double TRANSLATION_DENSITY_TOLERANCE = 0.05;
static const int CHECK_BATCH = 8;

static Tensor checkNoise(const FlowModule& module) {
    Tensor noise = torch::empty({CHECK_BATCH, module.getNoiseSize()}, torch::kFloat32);
    IterationNoise(RandomKey({1}), 0).normal(noise.data_ptr<float>(), noise.numel());
    return noise.to(module.getType());
}

static Tensor pairDistances(const Tensor& y) {
    return (y.unsqueeze(1) - y.unsqueeze(2)).square().sum(-1).sqrt();
}

[[noreturn]] static void report(const FlowModule& module, const string& what, double difference,
                                double tolerance, double time) {
    stringstream message;
    message << what << " " << difference << " at lag time " << time << " ps (tolerance " << tolerance << ")";
    module.fail(message.str());
}

static void checkDensity(const FlowModule& module, const Tensor& logProbability, const Tensor& logq,
                         double time) {
    double difference = (logProbability - logq).abs().max().item<double>();
    if (!(difference <= DENSITY_TOLERANCE))
        report(module, "log_prob of its own samples differs from their log_q by", difference,
               DENSITY_TOLERANCE, time);
}

static void checkInvertibility(FlowModule& module, const Tensor& x, const Tensor& noise, const Tensor& lag,
                               const Tensor& y, double time) {
    Tensor again, w, logq;
    module.sample(x, noise, lag, again, w, logq);
    double difference = (again - y).abs().max().item<double>();
    if (!(difference <= INVERTIBILITY_TOLERANCE))
        report(module, "sample(x, invert(y, w, x)) differs from y (in nm) by", difference,
               INVERTIBILITY_TOLERANCE, time);
}

static void checkIndependence(FlowModule& module, const Tensor& x, const Tensor& noise, const Tensor& finite,
                              const Tensor& y, const Tensor& logq, double time) {
    // Axes exchanged (a rotation) and stretched; an independent draw must not notice, beyond its frame in
    // space.
    Tensor other = x.index_select(1, torch::tensor({1, 2, 0})) * 1.1;
    Tensor lag = torch::full({CHECK_BATCH}, time, module.getType());
    Tensor y2, w2, logq2;
    module.sample(other, noise, lag, y2, w2, logq2);
    y2 = y2.index({finite});
    double difference = (pairDistances(y) - pairDistances(y2)).abs().max().item<double>();
    if (!(difference <= INVERTIBILITY_TOLERANCE))
        report(module,
               "at an infinite lag time its samples depend on x; interatomic distances (in nm) change by",
               difference, INVERTIBILITY_TOLERANCE, time);
    difference = (logq - logq2.index({finite})).abs().max().item<double>();
    if (!(difference <= DENSITY_TOLERANCE))
        report(module, "at an infinite lag time its density depends on x; log_q changes by", difference,
               DENSITY_TOLERANCE, time);
}

static void checkSeparateVelocities(FlowModule& module, const Tensor& x, const Tensor& noise, double time) {
    Tensor lag = torch::full({CHECK_BATCH}, time, module.getType());
    Tensor y, w, logq;
    module.sample(x, noise, lag, y, w, logq);
    Tensor zero = torch::zeros_like(w);
    Tensor expected = logq + 0.5 * w.to(torch::kFloat64).square().sum({1, 2});
    Tensor difference = module.logProb(y, zero, x.unsqueeze(0), lag) - expected;
    difference = difference.index({difference.isfinite()}).abs();
    if (difference.numel() > 0 && !(difference.max().item<double>() <= DENSITY_TOLERANCE))
        report(module,
               "it states auxiliary_velocities = false but its density is not that of y times N(w; 0, I), by",
               difference.max().item<double>(), DENSITY_TOLERANCE, time);
}

void TimewarpPlugin::checkContract(FlowModule& module, const ModelMetadata& metadata) {
    if (metadata.referencePositions.empty())
        return;
    torch::InferenceMode inference;
    Tensor x = positionsTensor(metadata.referencePositions, module.getType());
    Tensor noise = checkNoise(module);
    for (double time : metadata.lagTimes) {
        Tensor lag = torch::full({CHECK_BATCH}, time, module.getType());
        Tensor y, w, logq;
        module.sample(x, noise, lag, y, w, logq);
        // What is not finite is rejected by the chain, so it need not agree with anything.
        Tensor finite = y.isfinite().flatten(1).all(1) & w.isfinite().flatten(1).all(1) & logq.isfinite();
        if (!finite.any().item<bool>())
            continue;
        y = y.index({finite});
        w = w.index({finite});
        lag = lag.index({finite});
        checkDensity(module, module.logProb(y, w, x.unsqueeze(0), lag), logq.index({finite}), time);
        checkInvertibility(module, x, module.invert(y, w, x.unsqueeze(0), lag), lag, y, time);
        if (isinf(time))
            checkIndependence(module, x, noise, finite, y, logq.index({finite}), time);
        if (!metadata.auxiliaryVelocities)
            checkSeparateVelocities(module, x, noise, time);
    }
}

static void requireInvariance(const FlowModule& module, const Tensor& change, double tolerance) {
    // What is not finite is rejected wherever it is.
    Tensor finite = change.index({change.isfinite()}).abs();
    if (finite.numel() > 0 && !(finite.max().item<double>() <= tolerance))
        throw OpenMMException(
                "Timewarp: the System has periodic boundary conditions, but proposals of the model " +
                module.getPath() +
                " depend on where its molecules lie, so that periodic images of one state would be "
                "different states; use a model that is invariant to the translation of each molecule "
                "(one of a single molecule in internal coordinates is), or build the System without "
                "periodic boundary conditions");
}

void TimewarpPlugin::checkTranslationInvariance(FlowModule& module, const ModelMetadata& metadata,
                                                const vector<Vec3>& state, const vector<Vec3>& shifts) {
    torch::InferenceMode inference;
    Tensor x = positionsTensor(state, module.getType()), noise = checkNoise(module);
    x = x - x.mean(0, true);
    Tensor shift = positionsTensor(shifts, module.getType());
    for (double time : metadata.lagTimes) {
        Tensor lag = torch::full({CHECK_BATCH}, time, module.getType());
        Tensor y, w, logq, y2, w2, logq2;
        module.sample(x, noise, lag, y, w, logq);
        module.sample(x + shift, noise, lag, y2, w2, logq2);
        for (Tensor* result : {&y, &w, &logq, &y2, &w2, &logq2})
            *result = result->to(torch::kCPU);
        Tensor back = module.logProb(y2, w2, (x + shift).unsqueeze(0), lag).to(torch::kCPU);
        for (const Tensor& change : {(y2 - y - shift).flatten(1), (w2 - w).flatten(1)})
            requireInvariance(module, change, TRANSLATION_TOLERANCE);
        for (const Tensor& change : {logq2 - logq, back - logq})
            requireInvariance(module, change, TRANSLATION_DENSITY_TOLERANCE);
    }
}

static vector<Vec3> positionsIn(const Tensor& tensor) {
    Tensor values = tensor.to(torch::kCPU, torch::kFloat64).contiguous();
    const double* data = values.data_ptr<double>();
    vector<Vec3> positions;
    for (int64_t i = 0; i < values.size(0); i++)
        positions.emplace_back(data[3 * i], data[3 * i + 1], data[3 * i + 2]);
    return positions;
}

KeptMotions TimewarpPlugin::findKeptMotions(FlowModule& module, const ModelMetadata& metadata,
                                            const vector<Vec3>& state, const vector<double>& lagWeights) {
    torch::InferenceMode inference;
    Tensor x = positionsTensor(state, module.getType()), noise = checkNoise(module);
    x = x - x.mean(0, true);
    vector<vector<Vec3>> proposals;
    for (size_t i = 0; i < metadata.lagTimes.size(); i++) {
        if (lagWeights[i] == 0)
            continue;
        Tensor y, w, logq;
        module.sample(x, noise, torch::full({CHECK_BATCH}, metadata.lagTimes[i], module.getType()), y, w,
                      logq);
        y = y.to(torch::kCPU);
        for (int64_t k = 0; k < y.size(0); k++)
            if (y[k].isfinite().all().item<bool>())
                proposals.push_back(positionsIn(y[k]));
    }
    return findKeptMotions(positionsIn(x), proposals);
}
