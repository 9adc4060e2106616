/*
 * The integrator in a CompoundIntegrator: changing integrators, step sizes, forces that hold no more,
 * checkpoints.
 */
#include "TimewarpTestChain.h"
#include "TimewarpTestForce.h"
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
 * Dynamics moves the particles while prefetched proposals are pending; the chain goes on from where they are.
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

/**
 * The kernel of a platform, but for that it fails to write velocities when it is told to.
 */
class FailingKernel : public TimewarpStateKernel {
public:
    FailingKernel(const Kernel& kernel, const Platform& platform, const bool& fails)
            : TimewarpStateKernel(Name(), platform), kernel(kernel), fails(fails) {
    }
    void initialize(const System& system, const BlockAtoms& atoms) override {
        inner().initialize(system, atoms);
    }
    void getPositions(ContextImpl& context, std::vector<Vec3>& positions) override {
        inner().getPositions(context, positions);
    }
    void savePositions(ContextImpl& context) override {
        inner().savePositions(context);
    }
    void restorePositions(ContextImpl& context) override {
        inner().restorePositions(context);
    }
    bool positionsAreSaved(ContextImpl& context) override {
        return inner().positionsAreSaved(context);
    }
    void setProposals(ContextImpl& context, const std::vector<double>& positions,
                      const Vec3& origin) override {
        inner().setProposals(context, positions, origin);
    }
    void applyProposal(ContextImpl& context, int proposal) override {
        inner().applyProposal(context, proposal);
    }
    void reorderAtoms(ContextImpl& context) override {
        inner().reorderAtoms(context);
    }
    void setVelocities(ContextImpl& context, const float* velocities, double kT) override {
        if (fails)
            throw OpenMMException("no velocities");
        inner().setVelocities(context, velocities, kT);
    }
    double computeKineticEnergy(ContextImpl& context) override {
        return inner().computeKineticEnergy(context);
    }

private:
    TimewarpStateKernel& inner() {
        return kernel.getAs<TimewarpStateKernel>();
    }
    Kernel kernel;
    const bool& fails;
};

class FailingIntegrator : public ChainIntegrator<> {
public:
    using ChainIntegrator::ChainIntegrator;
    bool fails = false;

protected:
    Kernel wrapped(const Kernel& kernel) override {
        return Kernel(new FailingKernel(kernel, context->getPlatform(), fails));
    }
};

/**
 * An integrator that counts what it hears of changes.
 */
class ListeningIntegrator : public VerletIntegrator {
public:
    using VerletIntegrator::VerletIntegrator;
    int numChanges = 0;

protected:
    void stateChanged(State::DataType changed) override {
        numChanges++;
    }
};

/**
 * Whatever fails in a step, and at its end, the first failure is the one that is reported, and other
 * integrators hear that their forces hold no more.
 */
void testFailures(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    auto* watch = new WatchForce();
    bool energyFails = false;
    watch->update = [&](ContextImpl&) {
        if (energyFails)
            throw OpenMMException("no update");
        return false;
    };
    system->addForce(watch);
    CompoundIntegrator compound;
    auto* failing = new FailingIntegrator(modelPath("affine", 4), 8, 3);
    auto* listening = new ListeningIntegrator(0.001);
    compound.addIntegrator(failing);
    compound.addIntegrator(listening);
    Context context(*system, compound, platform);
    context.setPositions(std::vector<Vec3>(4));
    compound.step(5);
    for (bool first : {false, true})
        for (bool second : {false, true}) {
            energyFails = first;
            failing->fails = second;
            int before = listening->numChanges;
            if (first || second)
                assertThrows([&] { compound.step(5); }, first ? "no update" : "no velocities");
            else
                compound.step(5);
            ASSERT(listening->numChanges > before);
        }
    energyFails = failing->fails = false;
    compound.step(5);
}

void runTests(Platform& platform) {
    if (standsForAllPrecisions(platform)) {
        testFailures(platform);
        testSamplesWithDynamicsBetween(platform);
    }
    testChangingIntegrator(platform);
    testNoStaleForces(platform);
    testCompoundCheckpoint(platform);
}
