/*
 * Several blocks in one chain, and one block in several: each sees what the others have done, and none shares
 * a random number with another.
 */
#include "TimewarpTestBlocks.h"

/**
 * Blocks that the energy couples, or that have particles in common, of one model or of several.
 */
void testCoupledBlocks(Platform& platform) {
    CoupledOscillators target(4);
    auto system = target.createSystem();
    std::vector<std::vector<TestBlock>> cases = {
            {{"lags", {0}}, {"random", {0, 1, 2, 3}}, {"lags", {3}, 2.0}, {"tilted", {1}}}};
    if (!isDevice(platform)) {
        cases.push_back({{"affine", {0, 1}}, {"affine", {2, 3}}});
        cases.push_back({{"affine", {0, 1}}, {"affine", {1, 2}}, {"affine", {3, 2}}});
    }
    for (auto& blocks : cases)
        for (int batchSize : batchSizesOn(platform, 16)) {
            TimewarpMCMCIntegrator integrator(TEMPERATURE);
            addBlocks(integrator, blocks);
            integrator.setBatchSize(batchSize);
            integrator.setRandomNumberSeed(17);
            integrator.setFrozenOthers(true);
            integrator.setProposalsPerStep(3);
            Context context(*system, integrator, platform);
            startAtZero(context);
            checkInvariance(target, context, [&] { integrator.step(4); });
            for (size_t i = 0; i < blocks.size(); i++)
                ASSERT(integrator.getBlockNumAccepted(i) > 20);
        }
}

/**
 * The first block carries the second's context away, and what the second has prefetched holds no more.
 */
template <class Flow> void checkContextThatMoves(int batchSize, Platform& platform) {
    checkMoleculeAndPart<Flow>(SpringStar(0.1, 0.006), 0.5, batchSize, 6, platform);
}

void testContextThatMoves(Platform& platform) {
    for (int batchSize : batchSizesOn(platform, 16))
        checkContextThatMoves<FlowMove>(batchSize, platform);
    if (!isDevice(platform))
        assertThrows([&] { checkContextThatMoves<MoveThatDoesNotLook>(16, platform); },
                     "distributions differ");
}

/**
 * Two particles that do not feel each other, moved by one model: where they are after equally many tries of
 * their own, when they would have had the same random numbers if they had any in common.
 *
 * @param number   the place of the second block among the moves of the chain
 */
void checkIndependence(int number, Platform& platform) {
    const int numSamples = 200, triesBetween = 10;
    AnharmonicWell target(2);
    auto system = target.createSystem();
    BlockChain<> integrator({{"lags", {0}}, {"lags", {1}}}, 4, 5);
    bool isSecond = false;
    integrator.plant = [&](ContextImpl&, const BlockAtoms&, BlockSurroundings& surroundings) {
        surroundings.number = (isSecond ? number : 0);
        isSecond = true;
    };
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(2));
    std::vector<Vec3> samples[2];
    while (samples[0].size() < numSamples || samples[1].size() < numSamples) {
        integrator.step(1);
        for (int i : {0, 1})
            if (integrator.getCounters(i).numTried == triesBetween * ((int)samples[i].size() + 1))
                samples[i].push_back(context.getState(State::Positions).getPositions()[i]);
    }
    std::vector<double> products;
    for (int i = 0; i < numSamples; i++)
        for (int j = 0; j < 3; j++)
            products.push_back(samples[0][i][j] * samples[1][i][j]);

    // Of independent numbers the variance is the product of their variances.

    std::mt19937 random(2);
    double square = 0;
    const int numExact = 20000;
    for (int i = 0; i < numExact; i++) {
        double x = target.drawParticle(random)[0];
        square += x * x / numExact;
    }
    assertMean(products, 0.0, square * square);
}

void testOneModelForTwoMolecules(Platform& platform) {
    checkIndependence(1, platform);
    assertThrows([&] { checkIndependence(0, platform); }, "standard errors off");

    // It is loaded once.

    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    addBlocks(integrator, {{"lags", {0}}, {"lags", {1}}, {"affine", {0, 1}}});
    ASSERT(&integrator.getBlockModelContent(0) == &integrator.getBlockModelContent(1));
    ASSERT(&integrator.getBlockModelContent(0) != &integrator.getBlockModelContent(2));
}

/**
 * Two members of a CompoundIntegrator move the same particles by the same model with the same seed.
 */
template <class Other> void checkOneBlockInTwoChains(Other* other, Platform& platform) {
    SpringStar target(0.06, 0.003);
    auto system = target.createSystem();
    CompoundIntegrator compound;
    auto* first = new TimewarpMCMCIntegrator(modelPath("spherical_star", 4));
    first->setBatchSize(32);
    first->setRandomNumberSeed(5);
    compound.addIntegrator(first);
    compound.addIntegrator(other);
    Context context(*system, compound, platform);
    context.setPositions(SpringStar::start());
    compound.step(1);
    checkInvariance(target, context, [&] {
        for (int i = 0; i < 3; i++) {
            compound.setCurrentIntegrator(0);
            compound.step(3);
            compound.setCurrentIntegrator(1);
            compound.step(2);
        }
    });
    ASSERT(first->getNumAccepted() > 100);
}

void testOneBlockInTwoChains(Platform& platform) {
    const std::vector<TestBlock> star = {{"spherical_star", {0, 1, 2, 3}}};
    auto* second = new TimewarpMCMCIntegrator(TEMPERATURE);
    addBlocks(*second, star);
    second->setBatchSize(32);
    second->setRandomNumberSeed(5);
    checkOneBlockInTwoChains(second, platform);
    if (isDevice(platform))
        return;
    auto* stale = new BlockChain<MoveThatDoesNotLook>(star, 32, 5);
    assertThrows([&] { checkOneBlockInTwoChains(stale, platform); }, "distributions differ");
}

/**
 * Blocks are tried as often as their weights say, whether or not they are accepted.
 */
void testWeights(Platform& platform) {
    CoupledOscillators target(4);
    auto system = target.createSystem();
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    const int steps = 4000, proposals = 2;
    addBlocks(integrator, {{"tilted", {0}, 0.0},
                           {"nan_forward", {0, 1, 2, 3}, 1.0},
                           {"affine", {1, 0}, 3.0},
                           {"affine", {2, 3}, 0.0}});
    integrator.setRandomNumberSeed(2);
    integrator.setProposalsPerStep(proposals);
    integrator.setFrozenOthers(true);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    integrator.step(steps);
    for (int never : {0, 3})
        ASSERT_EQUAL(0, integrator.getBlockNumTried(never));
    ASSERT_EQUAL(proposals * steps, integrator.getBlockNumTried(1) + integrator.getBlockNumTried(2));
    double n = proposals * steps;
    assertMean({integrator.getBlockNumTried(1) / n}, 0.25, 0.25 * 0.75 / n);

    // What has been counted is the block's own.

    ASSERT_EQUAL(integrator.getBlockNumTried(1), integrator.getBlockNumNonFinite(1));
    ASSERT_EQUAL(0, integrator.getBlockNumAccepted(1));
    ASSERT_EQUAL(0, integrator.getBlockNumNonFinite(2));
    ASSERT(integrator.getBlockNumAccepted(2) > 100);
    ASSERT_EQUAL(n, integrator.getNumProposed());
    ASSERT_EQUAL(integrator.getBlockNumAccepted(2), integrator.getNumAccepted());
    ASSERT_EQUAL(integrator.getBlockNumTried(1), integrator.getNumNonFinite());
}

/**
 * A block that is never tried moves nothing, so its particles are frozen unless others move them.
 */
void testWeightsOfZero(Platform& platform) {
    auto system = AnharmonicWell(2).createSystem();
    auto create = [&](double weight, bool frozenOthers) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        addBlocks(integrator, {{"lags", {0}, 1.0}, {"lags", {1}, weight}});
        integrator.setFrozenOthers(frozenOthers);
        Context context(*system, integrator, platform);
    };
    create(1.0, false);
    create(0.0, true);
    assertThrows([&] { create(0.0, false); }, "nothing moves 1 of the System's particles");
    for (int numBlocks : {1, 2}) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        for (int i = 0; i < numBlocks; i++)
            addBlocks(integrator, {{"lags", {i}, 0.0}});
        integrator.setFrozenOthers(true);
        assertThrows([&] { Context context(*system, integrator, platform); }, "weights of all blocks are 0");
    }
}

const std::vector<TestBlock> SEVERAL = {
        {"lags", {0}, 2.0}, {"affine", {1, 2}}, {"lags", {3}}, {"affine", {3, 2}, 0.5}};

/**
 * The chain does not depend on how many proposals are prefetched.
 */
void testBatchSizes(Platform& platform) {
    CoupledOscillators target(4);
    target.coupling = 40;
    auto system = target.createSystem();
    std::vector<std::vector<Vec3>> expected;
    std::vector<long long> accepted;
    for (int batchSize : {1, 7, 64, 0}) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        addBlocks(integrator, SEVERAL);
        integrator.setBatchSize(batchSize);
        integrator.setRandomNumberSeed(9);
        integrator.setProposalsPerStep(2);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        for (int i = 0; i < 40; i++) {
            integrator.step(3);
            auto positions = context.getState(State::Positions).getPositions();
            if (batchSize == 1)
                expected.push_back(positions);
            ASSERT(maxDifference(expected[i], positions) < 1e-5);
        }
        for (int i = 0; i < integrator.getNumBlocks(); i++) {
            if (batchSize == 1)
                accepted.push_back(integrator.getBlockNumAccepted(i));
            ASSERT_EQUAL(accepted[i], integrator.getBlockNumAccepted(i));
            ASSERT(accepted[i] > 5);
        }
    }
}

/**
 * Blocks that have one model do not write to what another has accepted: velocities, too, do not depend on how
 * many proposals are prefetched, and are different deviates.
 */
void testVelocitiesOfBlocksWithOneModel(Platform& platform) {
    CoupledOscillators target(4);
    target.coupling = 40;
    auto system = target.createSystem();
    std::vector<std::vector<Vec3>> expected;
    for (int batchSize : {7, 1}) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        addBlocks(integrator, {{"lags", {0}}, {"lags", {3}}});
        integrator.setFrozenOthers(true);
        integrator.setBatchSize(batchSize);
        integrator.setRandomNumberSeed(9);
        integrator.setProposalsPerStep(8);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        for (int i = 0; i < 40; i++) {
            integrator.step(1);
            auto velocities = context.getState(State::Velocities).getVelocities();
            Vec3 difference = velocities[0] - velocities[3];
            ASSERT(difference.dot(difference) > 1e-8);
            if (batchSize == 7)
                expected.push_back(velocities);
            ASSERT(maxDifference(expected[i], velocities) < 1e-4);
        }
        ASSERT(integrator.getBlockNumAccepted(0) > 20 && integrator.getBlockNumAccepted(1) > 20);
    }
}

/**
 * Checkpoints and States are resumed bit for bit, in another Context as well.
 */
void testResuming(Platform& platform) {
    CoupledOscillators target(4);
    target.coupling = 40;
    auto system = target.createSystem();
    for (bool fromState : {false, true}) {
        TimewarpMCMCIntegrator first(TEMPERATURE), second(TEMPERATURE);
        for (TimewarpMCMCIntegrator* integrator : {&first, &second}) {
            addBlocks(*integrator, SEVERAL);
            integrator->setBatchSize(16);
        }
        Context context(*system, first, platform), other(*system, second, platform);
        context.setPositions(std::vector<Vec3>(4));
        for (int saved : {7, 1, 30}) {
            first.step(saved);
            std::stringstream checkpoint;
            context.createCheckpoint(checkpoint);
            State state =
                    context.getState(State::Positions | State::Velocities | State::IntegratorParameters);
            first.step(50);
            State expected = context.getState(State::Positions | State::Velocities);
            for (Context* resumed : {&other, &context}) {
                if (fromState)
                    resumed->setState(state);
                else {
                    checkpoint.seekg(0);
                    resumed->loadCheckpoint(checkpoint);
                }
                resumed->getIntegrator().step(50);
                State found = resumed->getState(State::Positions | State::Velocities);
                ASSERT(expected.getVelocities() == found.getVelocities());
                ASSERT(expected.getPositions() == found.getPositions());

                // A Context begins a run of its own if it loads a State that it has been beyond.

                if (fromState)
                    break;
            }
            for (int i = 0; i < first.getNumBlocks(); i++) {
                ASSERT_EQUAL(first.getBlockNumTried(i), second.getBlockNumTried(i));
                ASSERT_EQUAL(first.getBlockNumAccepted(i), second.getBlockNumAccepted(i));
            }
        }
    }
}

/**
 * A checkpoint of other blocks, or of the same with other weights, is refused.
 */
void testCheckpointOfOtherBlocks(Platform& platform) {
    auto system = AnharmonicWell(4).createSystem();
    auto checkpointOf = [&](const std::vector<TestBlock>& blocks, std::stringstream& stream, bool load) {
        TimewarpMCMCIntegrator integrator(TEMPERATURE);
        addBlocks(integrator, blocks);
        integrator.setFrozenOthers(true);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        integrator.step(3);
        if (load)
            context.loadCheckpoint(stream);
        else
            context.createCheckpoint(stream);
    };
    std::stringstream stream;
    checkpointOf({{"lags", {0}}, {"affine", {2, 1}}}, stream, false);
    auto load = [&](const std::vector<TestBlock>& blocks) {
        stream.seekg(0);
        checkpointOf(blocks, stream, true);
    };
    load({{"lags", {0}}, {"affine", {2, 1}}});
    assertThrows([&] { load({{"lags", {0}}, {"affine", {2, 1}, 0.25}}); },
                 "of blocks with the weights 1, 1, and those of this chain are 1, 0.25; add");
    assertThrows([&] { load({{"lags", {0}}}); }, "chain of 2 moves");
    assertThrows([&] { load({{"affine", {2, 1}}, {"lags", {0}}}); }, "another model");
    assertThrows([&] { load({{"lags", {0}}, {"affine", {1, 2}}}); }, "other particles");
}

void runTests(Platform& platform) {
    testResuming(platform);
    if (!standsForAllPrecisions(platform))
        return;
    testWeights(platform);
    testWeightsOfZero(platform);
    testBatchSizes(platform);
    testVelocitiesOfBlocksWithOneModel(platform);
    testCheckpointOfOtherBlocks(platform);
    testOneModelForTwoMolecules(platform);
    testCoupledBlocks(platform);
    testContextThatMoves(platform);
    testOneBlockInTwoChains(platform);
}
