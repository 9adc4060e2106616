#include "RecordedFlow.h"
#include <ATen/ATen.h>
#include <sstream>

using namespace TimewarpPlugin;
using namespace std;
using at::Tensor;

RecordedFlow::RecordedFlow(TimewarpGraphRecorder& recorder, at::Device device, const FlowInputs& examples,
                           Evaluate work)
        : evaluate(move(work)) {
    auto copied = [&](const Tensor& tensor) {
        return tensor.to(device, tensor.scalar_type(), false, true).contiguous();
    };
    inputs = {copied(examples.x), copied(examples.v), copied(examples.noise), copied(examples.lag)};
    graph = recorder.record([this] {
        outputs = {};
        outputs = evaluate(inputs);
    });
}

void RecordedFlow::copyInputs(const FlowInputs& newInputs) {
    inputs.x.copy_(newInputs.x);
    inputs.v.copy_(newInputs.v);
    inputs.noise.copy_(newInputs.noise);
    inputs.lag.copy_(newInputs.lag);
}

const FlowOutputs& RecordedFlow::run(const FlowInputs& newInputs) {
    copyInputs(newInputs);
    graph->replay();
    return outputs;
}

/**
 * Get the largest difference of two tensors; values that are not finite must be the same.
 */
static double largestDifference(const Tensor& a, const Tensor& b) {
    Tensor same = a.eq(b) | (a.isnan() & b.isnan());
    Tensor difference = at::where(same, at::zeros_like(a), (a - b).abs());
    return difference.numel() == 0 ? 0.0 : difference.max().item().toDouble();
}

string RecordedFlow::findDifference(const FlowInputs& newInputs, double positionTolerance,
                                    double densityTolerance) {
    run(newInputs);
    FlowOutputs expected = evaluate(inputs);
    stringstream text;
    auto compare = [&](const char* name, const Tensor& found, const Tensor& value, double tolerance) {
        double difference = largestDifference(found, value);
        if (!(difference <= tolerance))
            text << (text.tellp() > 0 ? ", " : "") << name << " by " << difference;
    };
    compare("y", outputs.y, expected.y, positionTolerance);
    compare("w", outputs.w, expected.w, positionTolerance);
    compare("log_q of sample", outputs.logForward, expected.logForward, densityTolerance);
    if (expected.logReverse.defined())
        compare("log_prob", outputs.logReverse, expected.logReverse, densityTolerance);
    return text.str();
}

/**
 * Get another of the model's lag times for each one.
 */
static Tensor otherLags(const Tensor& lag, const vector<double>& lagTimes) {
    Tensor result = lag.clone();
    for (size_t i = 0; i < lagTimes.size(); i++)
        result.masked_fill_(lag.eq(lagTimes[i]), lagTimes[(i + 1) % lagTimes.size()]);
    return result;
}

FlowInputs TimewarpPlugin::otherInputs(const FlowInputs& inputs, const vector<double>& lagTimes) {
    // Displacements of up to 0.003 nm, of each coordinate another.

    Tensor number = at::arange(1, inputs.x.numel() + 1, inputs.x.options()).view_as(inputs.x);
    return {inputs.x + 0.003 * number.sin(), -inputs.v.flip(0), -inputs.noise.flip(0),
            otherLags(inputs.lag.flip(0), lagTimes)};
}
