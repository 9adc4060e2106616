/*
 * What OpenMM's own tests ask of every stochastic integrator: temperature, seeds, initial temperature, force
 * groups, a Boltzmann histogram, and forces that change the Context's state.
 */
#include "TimewarpTestForce.h"
#include "TimewarpTestTargets.h"

/**
 * Eight charged Lennard-Jones particles in a periodic box: kinetic energy and its independence of the
 * positions.
 */
void testTemperature(Platform& platform) {
    const int numParticles = 8;
    const double temperature = 100.0;
    System system;
    system.setDefaultPeriodicBoxVectors(Vec3(5, 0, 0), Vec3(0, 5, 0), Vec3(0, 0, 5));
    auto* nonbonded = new NonbondedForce();
    nonbonded->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
    std::vector<Vec3> positions(numParticles);
    for (int i = 0; i < numParticles; i++) {
        system.addParticle(2.0 + i);
        nonbonded->addParticle((i % 2 == 0 ? 0.05 : -0.05), 0.1, 0.1);
        positions[i] = Vec3((i % 2 == 0 ? 2 : -2), (i % 4 < 2 ? 2 : -2), (i < 4 ? 2 : -2));
    }
    system.addForce(nonbonded);
    TimewarpMCMCIntegrator integrator(modelPath("affine", numParticles));
    integrator.setTemperature(temperature);
    integrator.setRandomNumberSeed(3);
    Context context(system, integrator, platform);
    context.setPositions(positions);
    const int steps = 2000;
    double sum = 0;
    for (int i = 0; i < steps; i++) {
        integrator.step(1);
        sum += context.getState(State::Energy).getKineticEnergy();
    }
    double expected = 1.5 * numParticles * BOLTZ * temperature;
    ASSERT_EQUAL_TOL(expected, sum / steps, 5 * std::sqrt(2.0 / (3 * numParticles * steps)));
    ASSERT(integrator.getNumAccepted() > 20);
}

void testRandomSeed(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("tilted", 4));
    integrator.setRandomNumberSeed(5);
    Context context(*system, integrator, platform);
    auto run = [&] {
        context.setPositions(std::vector<Vec3>(4));
        integrator.step(200);
        return context.getState(State::Positions).getPositions();
    };
    auto first = run();
    std::vector<std::vector<Vec3>> results;
    for (int seed : {5, 10, 10, 0, 0}) {
        integrator.setRandomNumberSeed(seed);
        context.reinitialize();
        results.push_back(run());
    }

    // The same seed, another one, and seeds that are picked anew.

    ASSERT(first == results[0]);
    ASSERT(first != results[1]);
    ASSERT(results[1] == results[2]);
    ASSERT(results[3] != results[4]);
}

Vec3 totalMomentum(const System& system, const std::vector<Vec3>& velocities) {
    Vec3 sum;
    for (int i = 0; i < system.getNumParticles(); i++)
        sum += velocities[i] * system.getParticleMass(i);
    return sum;
}

/**
 * Where OpenMM counts three degrees of freedom less, velocities have no momentum, and otherwise a
 * Maxwell-Boltzmann distribution: (3N-3)/2 kT of kinetic energy, and a variance of kT (1/m - 1/M) for each
 * velocity.  Five standard errors.
 *
 * @param numOthers   particles that the chain does not move, with velocities that stay
 * @param massless    whether these have no mass
 */
void checkMomentum(int numOthers, bool massless, int frequency, Platform& platform) {
    const int numMoved = 4, steps = 600;
    System system;
    auto* force = new CustomExternalForce("100*(x^2+y^2+z^2)");
    std::vector<int> moved;
    double movedMass = 0;
    for (int i = 0; i < numOthers; i++)
        system.addParticle(massless ? 0.0 : 40.0);
    for (int i = 0; i < numMoved; i++) {
        moved.push_back(system.addParticle(2.0 + 5 * i));
        movedMass += 2.0 + 5 * i;
        force->addParticle(moved[i]);
    }
    system.addForce(force);
    system.addForce(new CMMotionRemover(frequency));
    TimewarpMCMCIntegrator integrator(modelPath("affine", numMoved));
    integrator.setParticles(moved);
    integrator.setFrozenOthers(true);
    integrator.setRandomNumberSeed(3);
    Context context(system, integrator, platform);
    context.setPositions(std::vector<Vec3>(system.getNumParticles()));
    std::vector<Vec3> velocities(system.getNumParticles());
    for (int i = 0; i < numOthers && !massless; i++)
        velocities[i] = Vec3(0.3, -0.1 * i, 0.2);
    context.setVelocities(velocities);
    integrator.step(1);
    auto first = context.getState(State::Velocities).getVelocities();

    // What the others have sets the mean of those that are drawn.

    Vec3 mean;
    for (int i = 0; i < numOthers && !massless; i++)
        mean -= first[i] * (40.0 / movedMass);
    double energy = 0, square = 0;
    for (int i = 0; i < steps; i++) {
        integrator.step(1);
        velocities = context.getState(State::Velocities).getVelocities();
        Vec3 momentum = totalMomentum(system, velocities);
        ASSERT(std::sqrt(momentum.dot(momentum)) < 1e-3);
        for (int j = 0; j < numOthers; j++)
            ASSERT_EQUAL_VEC(first[j], velocities[j], 1e-5);
        for (int j = 0; j < numMoved; j++) {
            Vec3 v = velocities[moved[j]] - mean;
            energy += 0.5 * system.getParticleMass(moved[j]) * v.dot(v);
        }
        Vec3 v = velocities[moved[0]] - mean;
        square += v.dot(v);
    }
    const double freedom = 3 * numMoved - 3;
    ASSERT_EQUAL_TOL(0.5 * freedom * KT, energy / steps, 5 * std::sqrt(2 / freedom / steps));
    double variance = KT * (1 / system.getParticleMass(moved[0]) - 1 / movedMass);
    ASSERT_EQUAL_TOL(variance, square / (3 * steps), 5 * std::sqrt(2 / (3.0 * steps)));
}

void testMomentum(Platform& platform) {
    checkMomentum(3, false, 1, platform);
    if (!standsForAllPrecisions(platform))
        return;
    checkMomentum(0, false, 1, platform);
    for (int numOthers : {0, 3})
        checkMomentum(numOthers, false, 1000, platform);
    checkMomentum(2, true, 1, platform);
}

void testInitialTemperature(Platform& platform) {
    AnharmonicWell well(8);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("affine", 8));
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(8));
    const int draws = 500;
    double sum = 0;
    for (int i = 0; i < draws; i++) {
        context.setVelocitiesToTemperature(TEMPERATURE, i + 1);
        sum += context.getState(State::Energy).getKineticEnergy();
    }
    ASSERT_EQUAL_TOL(12 * KT, sum / draws, 5 * std::sqrt(1.0 / (12 * draws)));
}

/**
 * Only the force of the integrator's group is sampled from: x is bound, and y goes for a free walk.
 */
void testForceGroups(Platform& platform) {
    System system;
    for (int group : {1, 2}) {
        auto* force = new CustomExternalForce(group == 1 ? "200*x^2" : "200*y^2");
        force->setForceGroup(group);
        for (int i = 0; i < 4; i++)
            force->addParticle(i);
        system.addForce(force);
    }
    for (int i = 0; i < 4; i++)
        system.addParticle(1.0);
    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    integrator.setIntegrationForceGroups(1 << 1);
    integrator.setRandomNumberSeed(1);
    Context context(system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    double x = 0, y = 0;
    for (int i = 0; i < 1000; i++) {
        integrator.step(2);
        State state = context.getState(State::Positions);
        for (const Vec3& p : state.getPositions()) {
            x += p[0] * p[0] / 4000;
            y += p[1] * p[1] / 4000;
        }
    }
    ASSERT(x > 0.5 * KT / 400 && x < 2 * KT / 400);
    ASSERT(y > 20 * KT / 400);
}

/**
 * The distance of two particles on a spring has a Boltzmann distribution.
 */
void testBoltzmannHistogram(Platform& platform) {
    System system;
    system.addParticle(1.0);
    system.addParticle(1.0);
    auto* bond = new HarmonicBondForce();
    bond->addBond(0, 1, 0.3, 400.0);
    system.addForce(bond);
    TimewarpMCMCIntegrator integrator(modelPath("affine", 2));
    integrator.setRandomNumberSeed(6);
    Context context(system, integrator, platform);
    context.setPositions({Vec3(-0.15, 0, 0), Vec3(0.15, 0, 0)});
    const int numBins = 20, numIterations = 3000;
    const double maxDistance = 0.6;
    std::vector<double> counts(numBins, 0), expected(numBins, 0);
    for (int i = 0; i < numIterations; i++) {
        integrator.step(10);
        auto p = context.getState(State::Positions).getPositions();
        double distance = std::sqrt((p[0] - p[1]).dot(p[0] - p[1]));
        if (distance < maxDistance)
            counts[(int)(numBins * distance / maxDistance)] += 1.0 / numIterations;
    }
    double sum = 0;
    for (int i = 0; i < 100 * numBins; i++) {
        double distance = (i + 0.5) * maxDistance / (100 * numBins);
        double weight = distance * distance * std::exp(-200.0 * (distance - 0.3) * (distance - 0.3) / KT);
        expected[i / 100] += weight;
        sum += weight;
    }

    // Samples are correlated a little; the largest bins hold a tenth and have an error of 0.006.

    for (int i = 0; i < numBins; i++)
        ASSERT(std::fabs(counts[i] - expected[i] / sum) < 0.03);
}

/**
 * Forces may change positions and parameters once in every step, before the proposal; prefetched proposals
 * are pending.
 */
void testUpdateContextState(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    auto* watch = new WatchForce();
    int updates = 0;
    watch->update = [&](ContextImpl& context) {
        updates++;
        if (updates % 3 != 0)
            return false;
        std::vector<Vec3> positions;
        context.getPositions(positions);
        for (Vec3& p : positions)
            p = Vec3(p[1], p[2], -p[0]); // a symmetry of the target
        context.setPositions(positions);
        return true;
    };
    system->addForce(watch);
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
    integrator.setRandomNumberSeed(14);
    integrator.setBatchSize(64);
    Context context(*system, integrator, platform);
    startAtZero(context);
    updates = 0;
    std::mt19937 random(9);
    std::vector<double> x, exact;
    for (int i = 0; i < 600; i++) {
        context.setPositions(well.drawPositions(random));
        integrator.step(6);
        x.push_back(context.getState(State::Positions).getPositions()[0][0]);
    }
    ASSERT_EQUAL(3600, updates);
    for (int i = 0; i < 6000; i++)
        exact.push_back(well.drawPositions(random)[0][0]);
    assertSameDistribution(x, exact);

    // A parameter that a force switches off in the middle of a run is seen at once: all is accepted.

    watch->update = [&](ContextImpl& context) {
        context.setParameter("k", 0.0);
        context.setParameter("c", 0.0);
        return true;
    };
    TimewarpMCMCIntegrator symmetric(modelPath("affine", 4));
    symmetric.setRandomNumberSeed(2);
    Context flat(*system, symmetric, platform);
    flat.setPositions(std::vector<Vec3>(4));
    symmetric.step(100);
    ASSERT_EQUAL(100, symmetric.getNumAccepted());
}

void runTests(Platform& platform) {
    testMomentum(platform);
    if (!standsForAllPrecisions(platform))
        return;
    testTemperature(platform);
    testRandomSeed(platform);
    testInitialTemperature(platform);
    testForceGroups(platform);
    testUpdateContextState(platform);
    if (!isDevice(platform))
        testBoltzmannHistogram(platform);
}
