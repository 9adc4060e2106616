/*
 * Whose random numbers are whose: chains of one Context, replicas that go on from one State, and seeds that
 * were set.
 */
#include "IterationNoise.h"
#include "TimewarpTestTargets.h"
#include <set>
#include <sstream>

using TimewarpPlugin::IterationNoise;
using TimewarpPlugin::RandomKey;
using TimewarpPlugin::RandomKeyParts;

const int STATE_TYPES =
        State::Positions | State::Velocities | State::Parameters | State::IntegratorParameters;

/**
 * Keys that differ in one part, or in two, have no number in common, in any iteration.
 */
void testKeysHaveNothingInCommon(Platform& platform) {
    std::vector<RandomKeyParts> keys;
    for (std::int64_t seed : {0, 1, 2, -1, -2})
        for (std::uint64_t state : {0x0123456789abcdefu, 0x1123456789abcdefu})
            for (std::int64_t replica : {0, 1, 2})
                for (std::uint16_t chain : {0, 1, 2})
                    for (std::uint16_t move : {0, 1})
                        keys.push_back({seed, state, replica, chain, move});
    std::set<double> seen;
    for (const RandomKeyParts& parts : keys)
        for (std::int64_t iteration : {0, 1, 2})
            seen.insert(IterationNoise(RandomKey(parts), iteration).uniform());
    ASSERT_EQUAL(3 * keys.size(), seen.size());
}

/**
 * Integrators by turns in one Context, each of which moves particles of its own, in wells of their own.
 * Whatever seeds they have, and however they are nested, they are independent.  False-alarm rate 1e-5 each.
 */
void checkMembersAreIndependent(const std::vector<int>& seeds, bool nested, Platform& platform) {
    AnharmonicWell well(2);
    auto system = well.createSystem();
    CompoundIntegrator compound;
    CompoundIntegrator* inner = (nested ? new CompoundIntegrator() : NULL);
    std::vector<TimewarpMCMCIntegrator*> members;
    for (int i = 0; i < 2; i++) {
        members.push_back(new TimewarpMCMCIntegrator(modelPath("affine", 1)));
        members[i]->setParticles({i});
        members[i]->setRandomNumberSeed(seeds[i]);
        (nested && i == 1 ? inner : &compound)->addIntegrator(members[i]);
    }
    if (nested)
        compound.addIntegrator(inner);
    Context context(*system, compound, platform);
    context.setPositions(std::vector<Vec3>(2));
    const int samples = 1500;
    double product = 0;
    for (int i = 0; i < samples; i++) {
        for (int current : {0, 1}) {
            compound.setCurrentIntegrator(current);
            compound.step(1);
        }
        auto v = context.getState(State::Velocities).getVelocities();
        product += v[0].dot(v[1]) * 10.0 / KT;
    }

    // 3 products of normal deviates in each sample.

    ASSERT(std::fabs(product) < 4.42 * std::sqrt(3.0 * samples));
    for (TimewarpMCMCIntegrator* member : members)
        ASSERT_EQUAL(samples, member->getNumProposed());
}

void testMembersOfCompoundAreIndependent(Platform& platform) {
    for (bool nested : {false, true}) {
        checkMembersAreIndependent({7, 7}, nested, platform);
        checkMembersAreIndependent({7, 8}, nested, platform);
    }
}

/**
 * Two members with one seed move the same particle by turns: they sample its distribution.
 */
void testMembersThatShareAParticle(Platform& platform) {
    AnharmonicWell well(1);
    auto system = well.createSystem();
    CompoundIntegrator compound;
    for (int i = 0; i < 2; i++) {
        auto* member = new TimewarpMCMCIntegrator(modelPath("affine", 1));
        member->setRandomNumberSeed(3);
        compound.addIntegrator(member);
    }
    Context context(*system, compound, platform);
    std::mt19937 random(2);
    std::vector<double> x, exact;
    for (int i = 0; i < 1200; i++) {
        context.setPositions(well.drawPositions(random));
        for (int current : {0, 1, 0, 1}) {
            compound.setCurrentIntegrator(current);
            compound.step(1);
        }
        x.push_back(context.getState(State::Positions).getPositions()[0][0]);
    }
    for (int i = 0; i < 8000; i++)
        exact.push_back(well.drawPositions(random)[0][0]);
    assertSameDistribution(x, exact);
}

/**
 * A well, an integrator and its Context.
 */
struct Replica {
    std::unique_ptr<System> system;
    TimewarpMCMCIntegrator integrator;
    std::unique_ptr<Context> context;

    Replica(int seed, Platform& platform)
            : system(AnharmonicWell(4).createSystem()), integrator(modelPath("lags", 4)) {
        integrator.setRandomNumberSeed(seed);
        context = std::make_unique<Context>(*system, integrator, platform);
        context->setPositions(std::vector<Vec3>(4));
    }
    /** The positions after some steps. */
    std::vector<Vec3> run(int steps = 30) {
        integrator.step(steps);
        return context->getState(State::Positions).getPositions();
    }
    std::vector<Vec3> runFrom(const State& state) {
        context->setState(state);
        return run();
    }
    State state() const {
        return context->getState(STATE_TYPES);
    }
};

/**
 * A seed that was set wins over that of a State, whether it is set before the State is loaded or after.
 */
void testSetSeedWins(Platform& platform) {
    Replica first(5, platform);
    first.run();
    State state = first.state();
    auto expected = first.run();
    std::vector<std::vector<Vec3>> ends{expected};
    for (int seed : {6, 7}) {
        Replica before(seed, platform), after(0, platform);
        ends.push_back(before.runFrom(state));
        ASSERT_EQUAL(seed, before.integrator.getRandomNumberSeed());
        after.context->setState(state);
        after.integrator.setRandomNumberSeed(seed);
        ASSERT_EQUAL(seed, after.integrator.getRandomNumberSeed());
        ASSERT(after.run() == ends.back());
    }
    for (size_t i = 0; i < ends.size(); i++)
        for (size_t j = 0; j < i; j++)
            ASSERT(ends[i] != ends[j]);

    // The very seed of the State, or none, goes on with its run.

    Replica same(5, platform), none(0, platform);
    ASSERT(same.runFrom(state) == expected);
    ASSERT(none.runFrom(state) == expected);
    ASSERT_EQUAL(5, none.integrator.getRandomNumberSeed());
}

/**
 * A checkpoint resumes bit for bit whatever seed was set, and brings the seed of its run.
 */
void testCheckpointBringsItsSeed(Platform& platform) {
    for (int seed : {0, 5}) {
        Replica first(seed, platform);
        first.run();
        std::stringstream checkpoint;
        first.context->createCheckpoint(checkpoint);
        auto expected = first.run();
        Replica second(9, platform);
        second.context->loadCheckpoint(checkpoint);
        ASSERT(second.run() == expected);
        ASSERT_EQUAL(seed, second.integrator.getRandomNumberSeed());
    }
}

/**
 * Without a seed every Context picks another one.
 */
void testPickedSeeds(Platform& platform) {
    Replica first(0, platform), second(0, platform);
    ASSERT_EQUAL(0, first.integrator.getRandomNumberSeed());
    auto once = first.run();
    ASSERT(once != second.run());
    first.context->reinitialize();
    first.context->setPositions(std::vector<Vec3>(4));
    ASSERT(once != first.run());
}

/**
 * Replicas take turns in one Context, all from one State and in one thermodynamic state: they are different
 * runs, and go on being so, also in another Context.
 */
void testReplicasFromOneState(Platform& platform) {
    for (int seed : {0, 5}) {
        Replica shared(seed, platform);
        shared.run();
        std::vector<State> states(3, shared.state());
        auto expected = shared.run();
        for (int round = 0; round < 3; round++) {
            std::set<double> ends;
            for (State& state : states) {
                auto end = shared.runFrom(state);
                if (round == 0 && ends.empty())
                    ASSERT(end == expected); // the first one resumes
                for (const Vec3& p : end)
                    ends.insert(p[0]);
                state = shared.state();
            }
            ASSERT_EQUAL(4 * states.size(), ends.size());
        }
        Replica other(0, platform);
        for (const State& state : states) {
            auto end = other.runFrom(state);
            ASSERT(end == shared.runFrom(state));
        }
    }
}

void runTests(Platform& platform) {
    if (!standsForAllPrecisions(platform))
        return;
    testKeysHaveNothingInCommon(platform);
    testMembersOfCompoundAreIndependent(platform);
    testMembersThatShareAParticle(platform);
    testSetSeedWins(platform);
    testCheckpointBringsItsSeed(platform);
    testPickedSeeds(platform);
    testReplicasFromOneState(platform);
}
