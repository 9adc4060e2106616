/*
 * What the integrator does, apart from the distribution it samples (TestTimewarpInvariance.h).
 */
#include "TimewarpTestTargets.h"
#include <limits>

std::vector<Vec3> positionsAfter(const std::string& model, int batchSize, int steps, Platform& platform,
                                 int seed = 5, int stepsAtOnce = 10) {
    AnharmonicWell well;
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath(model, well.numParticles));
    integrator.setBatchSize(batchSize);
    integrator.setRandomNumberSeed(seed);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(well.numParticles));
    for (int i = 0; i < steps; i += stepsAtOnce)
        integrator.step(std::min(stepsAtOnce, steps - i));
    ASSERT_EQUAL(steps, integrator.getNumProposed());
    ASSERT_EQUAL(steps, context.getStepCount());
    return context.getState(State::Positions).getPositions();
}

void testChainDoesNotDependOnBatchSize(Platform& platform) {
    for (const char* model : {"affine", "anisotropic", "tilted", "lags", "broken"}) {
        const int steps = 300;
        auto reference = positionsAfter(model, 1, steps, platform);
        for (int batchSize : {0, 7, 64})
            ASSERT(maxDifference(reference, positionsAfter(model, batchSize, steps, platform)) < 1e-4);
        ASSERT(maxDifference(reference, positionsAfter(model, 1, steps, platform, 6)) > 0);
    }
}

void testChainDoesNotDependOnStepsAtOnce(Platform& platform) {
    for (const char* model : {"tilted", "lags"})
        for (int batchSize : {0, 64})
            ASSERT(maxDifference(positionsAfter(model, batchSize, 300, platform, 5, 1),
                                 positionsAfter(model, batchSize, 300, platform, 5, 300)) == 0);
}

void testIdentityAcceptsEverything(Platform& platform) {
    AnharmonicWell well;
    auto system = createSystemFor(well, "identity");
    TimewarpMCMCIntegrator integrator(modelPath("identity", well.numParticles));
    integrator.setRandomNumberSeed(4);
    Context context(*system, integrator, platform);
    std::mt19937 random(1);
    std::vector<Vec3> start = well.drawPositions(random);
    context.setPositions(start);
    integrator.step(500);
    ASSERT_EQUAL(500, integrator.getNumAccepted());
    ASSERT_EQUAL(1.0, integrator.getAcceptanceRate());
    ASSERT(maxDifference(start, context.getState(State::Positions).getPositions()) < 1e-7);
}

/**
 * Single precision is coarse far from the origin, so the model must be shown positions near it: 500 nm away,
 * a chain in a well that moved along takes the same decisions.
 */
void testFarFromOrigin(Platform& platform) {
    std::vector<std::vector<Vec3>> results;
    // Single precision cannot resolve positions so far away.

    const double far = (precisionOf(platform) == "single" ? 5.0 : 500.0);
    for (double shift : {0.0, far}) {
        System system;
        auto* force = new CustomExternalForce("25*((x-shift)^2+y^2+z^2)");
        force->addPerParticleParameter("shift");
        std::vector<Vec3> positions(4);
        for (int i = 0; i < 4; i++) {
            system.addParticle(10.0);
            force->addParticle(i, {shift});
            positions[i] = Vec3(shift + 0.1 * i, 0.1, 0.05 * i);
        }
        system.addForce(force);
        TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
        integrator.setRandomNumberSeed(2);
        Context context(system, integrator, platform);
        context.setPositions(positions);
        integrator.step(300);
        results.push_back(context.getState(State::Positions).getPositions());
        for (Vec3& p : results.back())
            p -= Vec3(shift, 0, 0);
    }
    ASSERT(maxDifference(results[0], results[1]) < 1e-5);
}

/**
 * An energy that rises steeply from the current state rejects everything, and the positions stay bit for bit.
 */
void testRejectionKeepsPositions(Platform& platform) {
    AnharmonicWell well;
    well.k = 1e12;
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("affine", well.numParticles));
    integrator.setRandomNumberSeed(5);
    Context context(*system, integrator, platform);
    std::mt19937 random(1);
    std::vector<Vec3> start = well.drawPositions(random);
    context.setPositions(start);
    start = context.getState(State::Positions).getPositions();
    integrator.step(200);
    ASSERT_EQUAL(0, integrator.getNumAccepted());
    ASSERT(maxDifference(start, context.getState(State::Positions).getPositions()) == 0);
}

void testNonFiniteProposalsAreCounted(Platform& platform) {
    // The broken model returns NaN where a normal deviate is above 0.5 and infinity where it is below -1.

    AnharmonicWell well;
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("broken", well.numParticles));
    integrator.setRandomNumberSeed(3);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(well.numParticles));
    const int steps = 4000;
    integrator.step(steps);
    double p = 0.308538 + 0.158655, tolerance = 4.5 * std::sqrt(steps * p * (1 - p));
    ASSERT(std::fabs(integrator.getNumNonFinite() - steps * p) < tolerance);
    ASSERT(integrator.getNumAccepted() > 0);
}

/**
 * Velocities are Maxwell-Boltzmann at the integrator's temperature (kinetic energy of 3N degrees of freedom;
 * bound of five standard errors).
 */
void testVelocities(Platform& platform) {
    AnharmonicWell well;
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("tilted", well.numParticles));
    integrator.setRandomNumberSeed(8);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(well.numParticles));
    const int samples = 4000;
    double sum = 0;
    for (int i = 0; i < samples; i++) {
        integrator.step(1);
        sum += context.getState(State::Energy).getKineticEnergy();
    }
    double freedom = 3.0 * well.numParticles, expected = 0.5 * freedom * KT;
    ASSERT(std::fabs(sum / samples - expected) < 5 * KT * std::sqrt(0.5 * freedom / samples));
}

void testParameterChangeIsSeen(Platform& platform) {
    AnharmonicWell well;
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("affine", well.numParticles));
    integrator.setBatchSize(64);
    integrator.setRandomNumberSeed(6);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(well.numParticles));
    integrator.step(5);
    context.setParameter("k", 0.0);
    context.setParameter("c", 0.0);
    long long before = integrator.getNumAccepted();
    integrator.step(50);
    ASSERT_EQUAL(before + 50, integrator.getNumAccepted());
}

void testBadInput(Platform& platform) {
    assertThrows([] { TimewarpMCMCIntegrator("missing.pt"); }, "missing.pt");
    AnharmonicWell well;
    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    assertThrows([&] { integrator.setTemperature(0.0); }, "Temperature");
    assertThrows([&] { integrator.setTemperature(std::nan("")); }, "Temperature");
    assertThrows([&] { integrator.setBatchSize(-1); }, "Batch size");
    assertThrows([&] { integrator.step(1); }, "not bound to a context");

    auto constrained = well.createSystem();
    constrained->addConstraint(0, 1, 0.1);
    assertThrows([&] { Context context(*constrained, integrator, platform); }, "constraints=None");
    auto massless = well.createSystem();
    massless->setParticleMass(2, 0.0);
    assertThrows([&] { Context context(*massless, integrator, platform); }, "particle 2 has no mass");
    auto virtualSite = well.createSystem();
    virtualSite->setParticleMass(2, 0.0);
    virtualSite->setVirtualSite(2, new TwoParticleAverageSite(0, 1, 0.5, 0.5));
    assertThrows([&] { Context context(*virtualSite, integrator, platform); },
                 "particle 2 is a virtual site");
    auto system = well.createSystem();
    integrator.setParticles({0, 1, 1, 2});
    assertThrows([&] { Context context(*system, integrator, platform); }, "particle 1 twice; give another");
    integrator.setParticles({0, 1, 9, 2});
    assertThrows([&] { Context context(*system, integrator, platform); }, "particle 9");
    integrator.setParticles({});

    // What was refused can still be used.

    Context context(*system, integrator, platform);
    assertThrows([&] { Context second(*system, integrator, platform); }, "already bound to a context");
    std::vector<Vec3> positions(4);
    positions[1][2] = std::numeric_limits<double>::quiet_NaN();
    context.setPositions(positions);
    assertThrows([&] { integrator.step(1); }, "position of atom 1 is not finite");
    context.setPositions(std::vector<Vec3>(4));
    integrator.step(1);
    ASSERT_EQUAL(1, integrator.getNumProposed());
}

void runTests(Platform& platform) {
    if (standsForAllPrecisions(platform)) {
        testChainDoesNotDependOnBatchSize(platform);
        testChainDoesNotDependOnStepsAtOnce(platform);
        testNonFiniteProposalsAreCounted(platform);
        testVelocities(platform);
        testBadInput(platform);
    }
    testIdentityAcceptsEverything(platform);
    testFarFromOrigin(platform);
    testRejectionKeepsPositions(platform);
    testParameterChangeIsSeen(platform);
}
