/*
 * The distribution of lag times, as the model states it and as the user sets it.
 */
#include "TimewarpTestTargets.h"
#include <limits>
#include <sstream>

void testLagWeights() {
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
    std::vector<double> times = {1.0, 4.0, std::numeric_limits<double>::infinity()};
    std::vector<double> stated = {0.4, 0.2, 0.4}, own = {3.0, 0.0, 1.0};
    ASSERT(integrator.getLagTimes() == times);
    ASSERT(integrator.getLagWeights() == stated);
    assertThrows([&] { integrator.setLagWeights({1.0, 1.0}); }, "must be 3 numbers");
    assertThrows([&] { integrator.setLagWeights({1.0, -1.0, 1.0}); }, "negative");
    assertThrows([&] { integrator.setLagWeights({1.0, std::nan(""), 1.0}); }, "negative, nor NaN");
    assertThrows([&] { integrator.setLagWeights({0.0, 0.0, 0.0}); }, "positive");
    ASSERT(integrator.getLagWeights() == stated);
    integrator.setLagWeights(own);
    ASSERT(integrator.getLagWeights() == own);
}

/**
 * Where the energy is left out every step of a finite lag is accepted, and its width is 0.05 sqrt(lag) nm.
 */
void testLagTimesArePickedAsSet(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
    integrator.setIntegrationForceGroups(1 << 3);
    integrator.setRandomNumberSeed(7);
    integrator.setLagWeights({1.0, 0.0, 0.0});
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    auto meanSquareStep = [&](int steps) {
        double sum = 0;
        auto last = context.getState(State::Positions).getPositions();
        for (int i = 0; i < steps; i++) {
            integrator.step(1);
            auto next = context.getState(State::Positions).getPositions();
            for (int j = 0; j < 4; j++)
                sum += (next[j] - last[j]).dot(next[j] - last[j]) / 12;
            last = next;
        }
        return sum / steps;
    };

    // 500 steps of 12 coordinates: the mean square is known to 1.8 %, five times that is allowed. Prefetching
    // for the old distribution is pending at every change.

    ASSERT_EQUAL_TOL(1.0, meanSquareStep(500) / 0.0025, 0.09);
    integrator.setLagWeights({0.0, 5.0, 0.0});
    ASSERT_EQUAL_TOL(1.0, meanSquareStep(500) / 0.01, 0.09);
    integrator.setLagWeights({0.5, 0.5, 0.0});
    ASSERT_EQUAL_TOL(1.0, meanSquareStep(500) / 0.00625, 0.2);
    ASSERT_EQUAL(1500, integrator.getNumAccepted());
}

/**
 * The chain is the same for any batch size, whenever the distribution changes.
 */
void testChangeDoesNotDependOnBatchSize(Platform& platform) {
    std::vector<std::vector<Vec3>> results;
    for (int batchSize : {1, 7, 64}) {
        AnharmonicWell well(4);
        auto system = well.createSystem();
        TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
        integrator.setBatchSize(batchSize);
        integrator.setRandomNumberSeed(6);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        for (int i = 0; i < 50; i++) {
            integrator.setLagWeights(i % 2 == 0 ? std::vector<double>{0.0, 0.0, 1.0}
                                                : std::vector<double>{1.0, 2.0, 0.5});
            integrator.step(5);
        }
        ASSERT(integrator.getNumAccepted() > 20);
        results.push_back(context.getState(State::Positions).getPositions());
    }
    for (int i = 0; i < 4; i++) {
        ASSERT_EQUAL_VEC(results[0][i], results[1][i], 1e-5);
        ASSERT_EQUAL_VEC(results[0][i], results[2][i], 1e-5);
    }
}

/**
 * A checkpoint holds the distribution, and a run resumed right after a change goes on bit for bit.
 */
void testCheckpointHoldsLagWeights(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    std::vector<double> weights = {1.0, 2.0, 0.5};
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4)), resumed(modelPath("lags", 4));
    integrator.setRandomNumberSeed(8);
    resumed.setRandomNumberSeed(9);
    Context context(*system, integrator, platform), context2(*system, resumed, platform);
    context.setPositions(std::vector<Vec3>(4));
    integrator.step(21);
    integrator.setLagWeights(weights);
    std::stringstream checkpoint;
    context.createCheckpoint(checkpoint);
    integrator.step(50);
    context2.loadCheckpoint(checkpoint);
    ASSERT(resumed.getLagWeights() == weights);
    resumed.step(50);
    ASSERT(context.getState(State::Positions).getPositions() ==
           context2.getState(State::Positions).getPositions());

    // They also outlive the Context.

    context.reinitialize();
    ASSERT(integrator.getLagWeights() == weights);
}

void runTests(Platform& platform) {
    testCheckpointHoldsLagWeights(platform);
    if (!standsForAllPrecisions(platform))
        return;
    testLagWeights();
    testLagTimesArePickedAsSet(platform);
    testChangeDoesNotDependOnBatchSize(platform);
}
