/*
 * Molecular dynamics between proposals: they are those of a LangevinMiddleIntegrator, proposals go on from
 * where they have led, and they from where proposals have.  Barostats are in TestTimewarpBarostat.h.
 */
#include "TimewarpTestBlocks.h"

using TimewarpPlugin::DynamicsSettings;

/**
 * Start from exact draws of positions and velocities, and compare both with exact draws after some steps of
 * dynamics and proposals.  Time steps are so short that their error is not seen.
 */
void checkPositionsAndVelocities(const Target& target, Integrator& integrator, Platform& platform,
                                 int steps) {
    auto system = target.createSystem();
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(target.numParticles));
    std::mt19937 random(3);
    std::normal_distribution<double> normal(0.0, std::sqrt(KT / system->getParticleMass(0)));
    BlockObservations found, exact;
    auto add = [&](BlockObservations& to, const std::vector<Vec3>& p, const std::vector<Vec3>& v) {
        to.add({target.energy(p), p.front()[0], p.back()[2], v.front()[0], v.front()[1], v.back()[2],
                v.back()[0]});
    };
    auto drawVelocities = [&] {
        std::vector<Vec3> velocities;
        for (int i = 0; i < target.numParticles; i++)
            velocities.emplace_back(normal(random), normal(random), normal(random));
        return velocities;
    };
    for (int i = 0; i < NUM_STARTS; i++) {
        context.setPositions(target.drawPositions(random));
        context.setVelocities(drawVelocities());
        integrator.step(steps);
        State state = context.getState(State::Positions | State::Velocities);
        add(found, state.getPositions(), state.getVelocities());
    }
    for (int i = 0; i < NUM_COMPARED; i++) {
        auto positions = target.drawPositions(random);
        add(exact, positions, drawVelocities());
    }
    found.assertSameAs(exact);
}

void testDistribution(Platform& platform) {
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    addBlocks(integrator, {{"lags", {0}}, {"affine", {1, 2}}, {"tilted", {3}}, {"lags", {3}}});
    integrator.setRandomNumberSeed(4);
    integrator.setBatchSize(8);
    integrator.setDynamics(5, 0.005, 2.0);
    integrator.setProposalsPerStep(3);
    checkPositionsAndVelocities(CoupledOscillators(4), integrator, platform, 3);
    for (int i = 0; i < integrator.getNumBlocks(); i++)
        ASSERT(integrator.getBlockNumAccepted(i) > 50);
}

/**
 * Velocities of accepted proposals must not depend on their having been accepted: those of the "sided" model
 * do, and the Context keeps its own where proposals are rejected.
 */
void testVelocitiesAfterAcceptance(Platform& platform) {
    for (int proposals : {1, 2}) {
        TimewarpMCMCIntegrator integrator(modelPath("sided", 1));
        integrator.setRandomNumberSeed(4);
        integrator.setBatchSize(4);
        integrator.setDynamics(1, 0.0005, 0.1);
        integrator.setProposalsPerStep(proposals);
        checkPositionsAndVelocities(AnharmonicWell(1), integrator, platform, 10);
        ASSERT(integrator.getNumAccepted() > 100);
    }
}

/**
 * Nothing that was prefetched before dynamics is used after them.
 */
void testNoPrefetchedProposalsAfterDynamics(Platform& platform) {
    const std::vector<TestBlock> star = {{"spherical_star", {0, 1, 2, 3}}};
    auto check = [&](auto&& integrator) {
        integrator.dynamics = {10, 0.001, 5.0};
        integrator.proposalsPerStep = 2;
        checkPositionsAndVelocities(SpringStar(0.06, 0.003), integrator, platform, 4);
        ASSERT(integrator.getCounters(0).numAccepted > 100);
    };
    check(BlockChain<>(star, 8, 5));
    if (!isDevice(platform))
        assertThrows([&] { check(BlockChain<MoveThatDoesNotLook>(star, 8, 5)); }, "distributions differ");
}

/**
 * Run an integrator and a LangevinMiddleIntegrator of the same seed side by side.
 */
void checkSameTrajectory(TimewarpMCMCIntegrator& integrator, Platform& platform) {
    const DynamicsSettings settings{4, 0.005, 3.0};
    CoupledOscillators target(4);
    target.k = 0;
    auto system = target.createSystem();
    system->addConstraint(0, 1, 0.1);
    system->addForce(new CMMotionRemover(1));
    LangevinMiddleIntegrator langevin(TEMPERATURE, settings.frictionCoeff, settings.stepSize);
    langevin.setRandomNumberSeed(7);
    langevin.setConstraintTolerance(1e-6);
    integrator.setRandomNumberSeed(7);
    integrator.setConstraintTolerance(1e-6);
    integrator.setDynamics(settings.steps, settings.stepSize, settings.frictionCoeff);
    std::vector<State> states;
    for (Integrator* current : {(Integrator*)&langevin, (Integrator*)&integrator}) {
        // One after the other: Contexts of the Reference platform share one generator of random numbers.

        Context context(*system, *current, platform);
        context.setPositions({Vec3(), Vec3(0.1, 0, 0), Vec3(0.1, 0.1, 0), Vec3(0, 0.1, 0.05)});
        context.setVelocities({Vec3(1, 0, 0), Vec3(1, 0.5, 0), Vec3(0, 0, 1), Vec3(-1, 0, 0)});
        for (int i = 0; i < 10; i++) {
            current->step(3 * (current == &langevin ? settings.steps : 1));
            State state = context.getState(State::Positions | State::Velocities | State::Energy);
            if (current == &langevin) {
                states.push_back(state);
                continue;
            }
            ASSERT(states[i].getPositions() == state.getPositions());
            ASSERT(states[i].getVelocities() == state.getVelocities());
            ASSERT_EQUAL(states[i].getKineticEnergy(), state.getKineticEnergy());
            ASSERT_EQUAL_TOL(states[i].getTime(), state.getTime(), 1e-10);
            ASSERT_EQUAL(3 * (i + 1), state.getStepCount());
        }
    }
}

void testSameTrajectoryAsLangevin(Platform& platform) {
    TimewarpMCMCIntegrator alone(TEMPERATURE);
    checkSameTrajectory(alone, platform);

    // Nor do proposals change it, of which none is accepted.

    TimewarpMCMCIntegrator impossible(TEMPERATURE);
    addBlocks(impossible, {{"nan_forward", {2}}, {"nan_forward", {3}}});
    impossible.setProposalsPerStep(3);
    checkSameTrajectory(impossible, platform);
    ASSERT_EQUAL(90, impossible.getNumProposed());
    ASSERT_EQUAL(0, impossible.getNumAccepted());
}

/**
 * The first step of dynamics after proposals, without friction, is that of a Context without a past: forces
 * are those of the new positions.
 */
void testForcesAfterProposals(Platform& platform) {
    const double dt = 0.002;
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    addBlocks(integrator, {{"lags", {0}}, {"affine", {1, 3}}});
    integrator.setRandomNumberSeed(4);
    integrator.setDynamics(1, dt, 0.0);
    integrator.setFrozenOthers(true);
    VerletIntegrator unused(0.001);
    Context context(*system, integrator, platform), fresh(*system, unused, platform);
    std::mt19937 random(2);
    context.setPositions(well.drawPositions(random));
    context.setVelocitiesToTemperature(TEMPERATURE, 1);
    for (int i = 0; i < 30; i++) {
        integrator.setProposalsPerStep(4);
        integrator.step(1);
        State start = context.getState(State::Positions | State::Velocities | State::Energy);
        fresh.setPositions(start.getPositions());
        State expected = fresh.getState(State::Forces | State::Energy);
        ASSERT_EQUAL_TOL(expected.getPotentialEnergy(), start.getPotentialEnergy(), 1e-5);
        integrator.setProposalsPerStep(0);
        integrator.step(1);
        State end = context.getState(State::Positions | State::Velocities);
        for (int j = 0; j < 4; j++) {
            Vec3 v = start.getVelocities()[j] + expected.getForces()[j] * (dt / 10.0);
            ASSERT_EQUAL_VEC(v, end.getVelocities()[j], toleranceOn(platform, 1e-9, 1e-4));
            ASSERT_EQUAL_VEC(start.getPositions()[j] + v * dt, end.getPositions()[j],
                             toleranceOn(platform, 1e-9, 1e-6));
        }
    }
    ASSERT_EQUAL(120, integrator.getNumProposed());
    ASSERT(integrator.getNumAccepted() > 10);
}

/**
 * The fault: velocities drawn for the time of the positions are taken for those of half a time step before.
 */
class MoveOfLateVelocities : public FlowMove {
public:
    using FlowMove::FlowMove;

protected:
    void goBackHalfTimeStep(TimewarpPlugin::Target&, std::vector<float>&) override {
    }
};

/**
 * Get the mean energy per degree of freedom, in units of kT/2, of harmonic oscillators whose positions and
 * velocities proposals change often.
 *
 * @param phase   frequency times time step
 */
template <class Flow> double meanOscillatorEnergy(Platform& platform, double phase) {
    AnharmonicWell well(4);
    well.c = 0;
    auto system = well.createSystem();
    BlockChain<Flow> integrator({{"lags", {0}}, {"lags", {1}}, {"lags", {2}}, {"lags", {3}}}, 4, 11);
    integrator.dynamics = {3, phase / std::sqrt(well.k / 10.0), 1e-4};
    integrator.proposalsPerStep = 8;
    Context context(*system, integrator, platform);
    std::mt19937 random(2);
    context.setPositions(well.drawPositions(random));
    const int steps = 1000;
    double sum = 0;
    for (int i = 0; i < steps; i++) {
        integrator.step(1);
        sum += std::min(1e6, context.getState(State::Energy).getPotentialEnergy());
    }
    return sum / steps / 12 / (KT / 2);
}

/**
 * Velocities that are drawn for stiff oscillators must not heat them up.  A state drawn for the time of the
 * positions goes on with a mean square that is 1/(1-(w/2)^2) too large at most, w being frequency times time
 * step, which is an error of second order, as dynamics have; without the half step the amplitude grows by
 * that factor at each draw on top of it, and at larger w without end.  Measured are 1.75 and 4.6, with an
 * error of 0.05 at most.
 */
void testStiffOscillators(Platform& platform) {
    const double phase = 1.5, most = 1 / (1 - phase * phase / 4);
    const double mean = meanOscillatorEnergy<FlowMove>(platform, phase);
    ASSERT(mean > 0.9 && mean < most);
    if (!isDevice(platform))
        ASSERT(meanOscillatorEnergy<MoveOfLateVelocities>(platform, phase) > 1.3 * most);
}

/**
 * One call for many steps is as many calls for one: what was accepted at the end of a call is remembered.
 */
void testStepsInOneCall(Platform& platform) {
    CoupledOscillators target(4);
    auto system = target.createSystem();
    std::vector<State> states;
    for (int perCall : {12, 1, 5}) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        addBlocks(integrator, {{"lags", {0}}, {"affine", {1, 3}}});
        integrator.setRandomNumberSeed(4);
        integrator.setDynamics(3, 0.004, 1.0);
        integrator.setProposalsPerStep(2);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        for (int done = 0; done < 48;) {
            int steps = std::min(perCall, 48 - done);
            integrator.step(steps);
            done += steps;
        }
        ASSERT(integrator.getNumAccepted() > 10);
        ASSERT_EQUAL(48, context.getStepCount());
        ASSERT_EQUAL_TOL(48 * 3 * 0.004, context.getTime(), 1e-6);
        states.push_back(context.getState(State::Positions | State::Velocities));
    }
    for (const State& state : states) {
        ASSERT(states[0].getPositions() == state.getPositions());
        ASSERT(states[0].getVelocities() == state.getVelocities());
    }
}

/**
 * With a CMMotionRemover accepted proposals leave no momentum, whether they move all particles or some, and
 * the mean kinetic energy is that of the degrees of freedom which reporters count.
 */
void testCenterOfMass(Platform& platform) {
    CoupledOscillators target(4);
    target.k = 0;
    target.coupling = 60;
    auto system = target.createSystem();
    system->addForce(new CMMotionRemover(1));
    for (auto& block : {TestBlock{"affine", {0, 1, 2, 3}}, TestBlock{"affine", {1, 2}}}) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        addBlocks(integrator, {block});
        integrator.setRandomNumberSeed(4);
        integrator.setDynamics(10, 0.01, 5.0);
        Context context(*system, integrator, platform);
        context.setPositions({Vec3(), Vec3(0.1, 0, 0), Vec3(0.1, 0.1, 0), Vec3(0, 0.1, 0.05)});
        context.setVelocitiesToTemperature(TEMPERATURE, 1);
        std::vector<double> energies;
        while (energies.size() < 400) {
            integrator.step(3);
            long long before = integrator.getNumAccepted();
            integrator.step(1);
            State state = context.getState(State::Velocities | State::Energy);
            energies.push_back(state.getKineticEnergy());
            Vec3 momentum;
            for (const Vec3& v : state.getVelocities())
                momentum += v * 10.0;
            if (integrator.getNumAccepted() > before)
                ASSERT(std::sqrt(momentum.dot(momentum)) < toleranceOn(platform, 1e-4, 1e-3));
        }
        ASSERT(integrator.getNumAccepted() > 100);
        assertMean(energies, 0.5 * 9 * KT, 0.5 * 9 * KT * KT);
    }
}

/**
 * Whether a run that is resumed from a checkpoint in the same Context is the same.
 */
bool resumesBitForBit(Integrator& integrator, Platform& platform) {
    CoupledOscillators target(4);
    auto system = target.createSystem();
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    integrator.step(7);
    std::stringstream checkpoint;
    context.createCheckpoint(checkpoint);
    integrator.step(20);
    auto expected = context.getState(State::Positions).getPositions();
    context.loadCheckpoint(checkpoint);
    integrator.step(20);
    return expected == context.getState(State::Positions).getPositions();
}

/**
 * Checkpoints hold as much of a run as those of a LangevinMiddleIntegrator do.
 */
void testCheckpoints(Platform& platform) {
    LangevinMiddleIntegrator langevin(TEMPERATURE, 1.0, 0.004);
    langevin.setRandomNumberSeed(3);
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    addBlocks(integrator, {{"lags", {0}}, {"affine", {1, 3}}, {"lags", {2}}});
    integrator.setRandomNumberSeed(3);
    integrator.setDynamics(3, 0.004, 1.0);
    ASSERT_EQUAL(resumesBitForBit(langevin, platform), resumesBitForBit(integrator, platform));
    ASSERT(integrator.getNumAccepted() > 3);
}

void runTests(Platform& platform) {
    testSameTrajectoryAsLangevin(platform);
    testForcesAfterProposals(platform);
    testStepsInOneCall(platform);
    testCheckpoints(platform);
    if (!standsForAllPrecisions(platform))
        return;
    testStiffOscillators(platform);
    testCenterOfMass(platform);
    testDistribution(platform);
    testVelocitiesAfterAcceptance(platform);
    testNoPrefetchedProposalsAfterDynamics(platform);
}
