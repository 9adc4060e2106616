/*
 * The integrator in a CompoundIntegrator: changing integrators, step sizes, forces that hold no more,
 * checkpoints.
 */
#include "TimewarpTestTargets.h"
#include <sstream>

/**
 * Two particles on a spring, and integrators of three kinds, of different step sizes, by turns.
 */
void testChangingIntegrator(Platform& platform) {
    CoupledOscillators target(2);
    auto system = target.createSystem();
    CompoundIntegrator compound;
    compound.addIntegrator(new LangevinMiddleIntegrator(TEMPERATURE, 10.0, 0.011));
    auto* timewarp = new TimewarpMCMCIntegrator(modelPath("affine", 2));
    timewarp->setStepSize(0.5);
    timewarp->setRandomNumberSeed(4);
    compound.addIntegrator(timewarp);
    compound.addIntegrator(new VerletIntegrator(0.002));
    Context context(*system, compound, platform);
    for (int iteration = 0; iteration < 2; iteration++) {
        context.setPositions(std::vector<Vec3>(2));
        double expectedTime = 0;
        for (int current : {1, 0, 1, 2, 1}) {
            compound.setCurrentIntegrator(current);
            double kinetic = 0;
            const int samples = 100;
            for (int i = 0; i < samples; i++) {
                compound.step(10);
                kinetic += context.getState(State::Energy).getKineticEnergy();
            }
            expectedTime += samples * 10 * compound.getStepSize();
            ASSERT_EQUAL_TOL(expectedTime, context.getTime(), 1e-6);
            if (current == 1) // independent draws of 6 degrees of freedom; five standard errors
                ASSERT_EQUAL_TOL(3 * KT, kinetic / samples, 5 * std::sqrt(1 / (3.0 * samples)));
        }
        ASSERT_EQUAL(3000, timewarp->getNumProposed());
        ASSERT(timewarp->getNumAccepted() > 100);

        // And all over again.

        context.reinitialize();
        ASSERT_EQUAL(0, timewarp->getNumProposed());
    }
}

/**
 * Velocity Verlet as a CustomIntegrator keeps forces from step to step.  After an accepted proposal they are
 * those of other positions, and it must be told: it then conserves the energy that it starts with.
 */
void testNoStaleForces(Platform& platform) {
    for (int customIndex : {0, 1}) {
        AnharmonicWell well(4);
        auto system = well.createSystem();
        auto* custom = new CustomIntegrator(0.002);
        custom->addPerDofVariable("unused", 0);
        custom->addComputePerDof("v", "v+0.5*dt*f/m");
        custom->addComputePerDof("x", "x+dt*v");
        custom->addComputePerDof("v", "v+0.5*dt*f/m");
        auto* timewarp = new TimewarpMCMCIntegrator(modelPath("affine", 4));
        timewarp->setRandomNumberSeed(9);
        CompoundIntegrator compound;
        if (customIndex == 0)
            compound.addIntegrator(custom);
        compound.addIntegrator(timewarp);
        if (customIndex == 1)
            compound.addIntegrator(custom);
        Context context(*system, compound, platform);
        context.setPositions(std::vector<Vec3>(4));
        VerletIntegrator unusedIntegrator(0.002);
        Context fresh(*system, unusedIntegrator, platform);
        for (int i = 0; i < 30; i++) {
            compound.setCurrentIntegrator(1 - customIndex);
            compound.step(3);

            // The first step is the one that stale forces would spoil: compare with a Context without a past.

            State start = context.getState(State::Positions | State::Velocities);
            compound.setCurrentIntegrator(customIndex);
            compound.step(1);
            State end = context.getState(State::Positions | State::Velocities);
            fresh.setPositions(start.getPositions());
            auto forces = fresh.getState(State::Forces).getForces();
            for (int j = 0; j < 4; j++) {
                Vec3 v = start.getVelocities()[j] + forces[j] * (0.5 * 0.002 / 10.0);
                ASSERT_EQUAL_VEC(start.getPositions()[j] + v * 0.002, end.getPositions()[j],
                                 toleranceOn(platform, 1e-9, 1e-6));
            }
        }
        ASSERT(timewarp->getNumAccepted() > 10);
    }
}

/**
 * Dynamics moves the particles while look-ahead is pending; the chain goes on from where they are.
 */
void testSamplesWithDynamicsBetween(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    CompoundIntegrator compound;
    auto* langevin = new LangevinMiddleIntegrator(TEMPERATURE, 5.0, 0.002);
    langevin->setRandomNumberSeed(2);
    compound.addIntegrator(langevin);
    auto* timewarp = new TimewarpMCMCIntegrator(modelPath("lags", 4));
    timewarp->setRandomNumberSeed(12);
    timewarp->setBatchSize(64);
    compound.addIntegrator(timewarp);
    Context context(*system, compound, platform);
    startAtZero(context);
    std::mt19937 random(8);
    std::vector<double> energies, exact;
    for (int i = 0; i < 400; i++) {
        context.setPositions(well.drawPositions(random));
        context.setVelocitiesToTemperature(TEMPERATURE, i + 1);
        for (int current : {1, 0, 1}) {
            compound.setCurrentIntegrator(current);
            compound.step(5);
        }
        energies.push_back(well.energy(context.getState(State::Positions).getPositions()));
    }
    for (int i = 0; i < 4000; i++)
        exact.push_back(well.energy(well.drawPositions(random)));
    assertSameDistribution(energies, exact);
}

void testCompoundCheckpoint(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    CompoundIntegrator compound;
    compound.addIntegrator(new LangevinMiddleIntegrator(TEMPERATURE, 5.0, 0.002));
    auto* timewarp = new TimewarpMCMCIntegrator(modelPath("lags", 4));
    timewarp->setRandomNumberSeed(6);
    compound.addIntegrator(timewarp);
    auto* custom = new CustomIntegrator(0.001);
    custom->addGlobalVariable("a", 1.0);
    compound.addIntegrator(custom);
    Context context(*system, compound, platform);
    context.setPositions(std::vector<Vec3>(4));
    compound.setCurrentIntegrator(1);
    compound.step(20);
    custom->setGlobalVariable(0, 5.0);
    std::stringstream checkpoint;
    context.createCheckpoint(checkpoint);
    State saved = context.getState(State::Positions | State::IntegratorParameters);
    compound.step(40);
    auto expected = context.getState(State::Positions).getPositions();
    for (bool fromState : {false, true}) {
        custom->setGlobalVariable(0, 10.0);
        compound.setCurrentIntegrator(0);
        if (fromState)
            context.setState(saved);
        else
            context.loadCheckpoint(checkpoint);
        ASSERT_EQUAL(1, compound.getCurrentIntegrator());
        ASSERT_EQUAL(5.0, custom->getGlobalVariable(0));
        ASSERT_EQUAL(20, timewarp->getNumProposed());
        compound.step(40);
        ASSERT(expected == context.getState(State::Positions).getPositions());
    }
}

void runTests(Platform& platform) {
    testChangingIntegrator(platform);
    testNoStaleForces(platform);
    testSamplesWithDynamicsBetween(platform);
    testCompoundCheckpoint(platform);
}
