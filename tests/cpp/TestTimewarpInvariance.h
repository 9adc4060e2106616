/*
 * Invariance tests in the manner of Gandy & Scott (arXiv 2001.06465): start from exact draws of the target,
 * apply a few iterations, and the result must have the distribution of exact draws.  False-alarm rate 1e-5
 * for each comparison.
 */
#include "TimewarpTestTargets.h"
#include <sstream>

/** Exact draws that chains start from, and those they are compared with. */
const int NUM_DRAWS = 400, NUM_EXACT = 6000;

/**
 * What is compared: one column for each of the energy and some coordinates.
 */
struct Observations {
    std::vector<std::vector<double>> columns{4};

    void add(const Target& target, const std::vector<Vec3>& positions) {
        columns[0].push_back(target.energy(positions));
        columns[1].push_back(positions.front()[0]);
        columns[2].push_back(positions.front()[1]);
        columns[3].push_back(positions.back()[2]);
    }
};

void assertExact(const Target& target, const Observations& found, std::mt19937& random) {
    Observations exact;
    for (int i = 0; i < NUM_EXACT; i++)
        exact.add(target, target.drawPositions(random));
    for (size_t i = 0; i < exact.columns.size(); i++)
        assertSameDistribution(found.columns[i], exact.columns[i]);
}

/**
 * Apply iterations to exact draws and compare with other exact draws.
 *
 * @param temperature   the temperature that the integrator is told, TEMPERATURE for a correct chain
 */
void checkInvariance(const Target& target, const std::string& model, int batchSize, Platform& platform,
                     int steps = 4, double temperature = TEMPERATURE) {
    auto system = target.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath(model, target.numParticles));
    integrator.setTemperature(temperature);
    integrator.setBatchSize(batchSize);
    integrator.setRandomNumberSeed(17);
    Context context(*system, integrator, platform);
    startAtZero(context);
    std::mt19937 random(batchSize + 1);
    Observations found;
    for (int i = 0; i < NUM_DRAWS; i++) {
        context.setPositions(target.drawPositions(random));
        integrator.step(steps);
        found.add(target, context.getState(State::Positions).getPositions());
    }
    assertExact(target, found, random);
    ASSERT(integrator.getNumProposed() == steps * NUM_DRAWS + 1);
    ASSERT(integrator.getNumAccepted() > 5);
}

void testAnharmonicWell(Platform& platform) {
    for (int batchSize : batchSizesOn(platform)) {
        for (const char* model : {"affine", "anisotropic", "tilted", "random", "lags", "broken"})
            checkInvariance(AnharmonicWell(4), model, batchSize, platform);
        checkInvariance(AnharmonicWell(1), "badly_scaled", batchSize, platform, 16);
    }
}

void testDoubleWell(Platform& platform) {
    for (int batchSize : batchSizesOn(platform)) {
        checkInvariance(DoubleWell(1), "sided", batchSize, platform, 10);
        checkInvariance(DoubleWell(4), "lags", batchSize, platform);
    }
}

void testTorsionRing(Platform& platform) {
    for (int batchSize : batchSizesOn(platform)) {
        checkInvariance(TorsionRing(1), "torsion", batchSize, platform);
        checkInvariance(TorsionRing(4), "tilted", batchSize, platform);
    }
}

void testCoupledOscillators(Platform& platform) {
    for (int batchSize : batchSizesOn(platform))
        for (const char* model : {"random", "affine"})
            checkInvariance(CoupledOscillators(4), model, batchSize, platform, 8);
}

/**
 * The chain is broken off in the middle and goes on in another Context.
 */
void testRestartInTheMiddle(Platform& platform) {
    for (const char* model : {"tilted", "lags"}) {
        AnharmonicWell target(4);
        auto system = target.createSystem();
        TimewarpMCMCIntegrator first(modelPath(model, 4)), second(modelPath(model, 4));
        first.setRandomNumberSeed(18);
        second.setRandomNumberSeed(19);
        Context context1(*system, first, platform), context2(*system, second, platform);
        startAtZero(context1);
        std::mt19937 random(3);
        Observations found;
        for (int i = 0; i < NUM_DRAWS; i++) {
            context1.setPositions(target.drawPositions(random));
            first.step(2);
            std::stringstream there, back;
            context1.createCheckpoint(there);
            context2.loadCheckpoint(there);
            second.step(2);
            found.add(target, context2.getState(State::Positions).getPositions());
            context2.createCheckpoint(back);
            context1.loadCheckpoint(back);
        }
        assertExact(target, found, random);
        ASSERT_EQUAL(4 * NUM_DRAWS + 1, first.getNumProposed());
    }
}

/**
 * The tests above must be able to fail: a chain at another temperature is told apart.
 */
void testInvarianceCanFail(Platform& platform) {
    auto hot = [&](const Target& target, const std::string& model) {
        assertThrows([&] { checkInvariance(target, model, 64, platform, 8, 2 * TEMPERATURE); },
                     "distributions differ");
    };
    hot(AnharmonicWell(4), "lags");
    hot(TorsionRing(1), "torsion");
    hot(CoupledOscillators(4), "affine");
}

void runTests(Platform& platform) {
    if (standsForAllPrecisions(platform)) {
        testAnharmonicWell(platform);
        testDoubleWell(platform);
        testTorsionRing(platform);
        testCoupledOscillators(platform);
        testRestartInTheMiddle(platform);
    }
    if (!isDevice(platform))
        testInvarianceCanFail(platform);
}
