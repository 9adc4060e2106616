#ifndef TIMEWARP_RECORDED_FLOW_H_
#define TIMEWARP_RECORDED_FLOW_H_

#include "TimewarpGraphRecorder.h"
#include <ATen/core/Tensor.h>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * What a model makes a batch of proposals from: the state x, and for each proposal the auxiliary velocities
 * v, the noise and the lag time.
 */
struct FlowInputs {
    at::Tensor x, v, noise, lag;
};

/**
 * A batch of proposals as the model returns it; see ProposalBatch.
 */
struct FlowOutputs {
    at::Tensor y, w, logForward;
    /** Undefined if it was not asked for. */
    at::Tensor logReverse;
};

/**
 * A recording of a model's work for one batch size, to be repeated for other inputs.
 */
class RecordedFlow {
public:
    using Evaluate = std::function<FlowOutputs(const FlowInputs&)>;
    /**
     * Record the work.
     *
     * @param recorder   records it
     * @param device     where the model runs
     * @param inputs     inputs to record it with; those of later calls must have the same shapes
     * @param evaluate   the work; it must outlive this object
     */
    RecordedFlow(TimewarpGraphRecorder& recorder, at::Device device, const FlowInputs& inputs,
                 Evaluate evaluate);
    RecordedFlow(const RecordedFlow&) = delete;
    RecordedFlow& operator=(const RecordedFlow&) = delete;
    /**
     * Repeat it.  The results are overwritten by the next call.
     */
    const FlowOutputs& run(const FlowInputs& inputs);
    /**
     * Repeat it and do the work itself for the same inputs.  A graph that had recorded as a constant what
     * depends on the inputs would give wrong densities, and nothing else would tell.
     *
     * @param positionTolerance   by how much y and w may differ
     * @param densityTolerance    by how much log densities may differ
     * @return what differs and by how much; empty if nothing does
     */
    std::string findDifference(const FlowInputs& inputs, double positionTolerance, double densityTolerance);

private:
    void copyInputs(const FlowInputs& newInputs);
    Evaluate evaluate;
    // The memory that the recorded work reads from and writes to.
    FlowInputs inputs;
    FlowOutputs outputs;
    std::unique_ptr<TimewarpGraph> graph;
};

/**
 * Make other inputs of the same shapes, all of whose values differ from the given ones: of x a little, so
 * that it remains a state that the model knows, and of lag as far as the model has several lag times.
 *
 * @param lagTimes   the model's lag times
 */
FlowInputs otherInputs(const FlowInputs& inputs, const std::vector<double>& lagTimes);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_RECORDED_FLOW_H_*/
