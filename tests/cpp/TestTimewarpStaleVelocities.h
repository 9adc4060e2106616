/*
 * The stale-velocity trap (docs/theory.md, rule 1).  A chain that draws its auxiliary velocities once for
 * each batch of proposals, and keeps them until the first acceptance, makes their refresh depend on the
 * outcome: it stays too long wherever the acceptance depends strongly on the velocities.  The fault is
 * planted here, and must be seen.
 */
#include "TimewarpTestChain.h"
#include "TimewarpTestTargets.h"

/**
 * The fault: all proposals of a batch share the velocities of the first.
 */
class StaleVelocityMove : public FlowMove {
public:
    using FlowMove::FlowMove;

protected:
    void draw(TimewarpPlugin::Target& target, std::int64_t start, const ProposalInputs& inputs,
              Draws& draws) override {
        FlowMove::draw(target, start, inputs, draws);
        float* velocities = static_cast<float*>(inputs.velocities);
        int row = 3 * inputs.numAtoms;
        for (int i = row; i < inputs.size * row; i++)
            velocities[i] = velocities[i - row];
    }
};

/**
 * Start from exact draws, apply iterations and look at the side the particle is on.  With the model "sided"
 * the acceptance of moves to the positive side depends on the velocities, and that of moves back does not.
 */
template <class Flow> void checkTrap(int batchSize, Platform& platform) {
    const int numDraws = 500;
    DoubleWell well(1);
    auto system = well.createSystem();
    ChainIntegrator<Flow> integrator(modelPath("sided", 1), batchSize, 31);
    Context context(*system, integrator, platform);
    startAtZero(context);
    std::mt19937 random(7);
    std::vector<double> x, exact;
    for (int i = 0; i < numDraws; i++) {
        context.setPositions(well.drawPositions(random));
        integrator.step(20);
        x.push_back(context.getState(State::Positions).getPositions()[0][0]);
    }
    for (int i = 0; i < 10 * numDraws; i++)
        exact.push_back(well.drawPositions(random)[0][0]);
    assertSameDistribution(x, exact);
    ASSERT(integrator.getCounters().numAccepted > numDraws);
}

void testStaleVelocitiesAreSeen(Platform& platform) {
    assertThrows([&] { checkTrap<StaleVelocityMove>(64, platform); }, "distributions differ");
}

/**
 * With a batch of one the planted chain is the true one, so it is the batch that makes the fault.
 */
void testFreshVelocities(Platform& platform) {
    checkTrap<FlowMove>(64, platform);
    checkTrap<StaleVelocityMove>(1, platform);
}

void runTests(Platform& platform) {
    if (!standsForAllPrecisions(platform))
        return;
    testStaleVelocitiesAreSeen(platform);
    testFreshVelocities(platform);
}
