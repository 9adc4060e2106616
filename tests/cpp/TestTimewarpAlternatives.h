/*
 * Alternatives: latent steps of a subchain are made at once from one state, and of them all and the state
 * one is chosen.  Invariance as in TestTimewarpInvariance.h, with a false-alarm rate of 1e-5 for each
 * comparison.
 */
#include "LocalScreening.h"
#include "TimewarpTestBlocks.h"
#include "TimewarpTestChain.h"
#include "TimewarpTestTargets.h"
#include "TryGroups.h"

using TimewarpPlugin::LatentStep;

/** Most groups know the state: near it, in a share of the variables, in torsions; some do not. */
const std::vector<std::pair<LatentStep, double>> GROUPS{
        {{0.0, 1.0}, 0.2}, {{0.6, 1.0}, 0.2}, {{0.95, 1.0}, 0.2}, {{0.0, 0.4}, 0.2}, {{0.5, 1.0, 2}, 0.2}};

class GroupedMove : public FlowMove {
public:
    GroupedMove(std::shared_ptr<ProposalModel> model, const Kernel& kernel,
                const BlockSurroundings& surroundings)
            : FlowMove(model, kernel, surroundings) {
        setLatentCorrelations(GROUPS);
    }
};

/**
 * Apply steps to exact draws and compare with other exact draws.
 */
template <class Flow, class Delayed>
void checkAlternatives(const std::string& model, const std::string& surrogate, int length, int batchSize,
                       Platform& platform, int steps = 4) {
    const int numDraws = 800, numExact = 6000;
    AnharmonicWell target(4);
    auto system = target.createSystem();
    ChainIntegrator<Flow, Delayed> integrator(modelPath(model, 4), batchSize, 29);
    integrator.setSurrogate(surrogateContent(surrogate), length);
    Context context(*system, integrator, platform);
    startAtZero(context);
    std::mt19937 random(length);
    std::vector<std::vector<double>> found(4), exact(4);
    auto add = [&](std::vector<std::vector<double>>& columns, const std::vector<Vec3>& positions) {
        columns[0].push_back(target.energy(positions));
        columns[1].push_back(positions.front()[0]);
        columns[2].push_back(positions.back()[2]);
        columns[3].push_back(positions.front().dot(positions.front()));
    };
    for (int i = 0; i < numDraws; i++) {
        context.setPositions(target.drawPositions(random));
        integrator.step(steps);
        add(found, context.getState(State::Positions).getPositions());
    }
    for (int i = 0; i < numExact; i++)
        add(exact, target.drawPositions(random));
    for (size_t i = 0; i < exact.size(); i++)
        assertSameDistribution(found[i], exact[i]);
    auto& counters = integrator.getCounters();
    ASSERT_EQUAL(steps * numDraws + 1, counters.numTried);
    ASSERT_EQUAL(length * counters.numTried, counters.iteration);
    ASSERT(counters.numAccepted > numDraws / 4);
}

void testInvariance(Platform& platform) {
    for (int batchSize : batchSizesOn(platform))
        checkAlternatives<GroupedMove, DelayedAcceptance>("framed", "poor", 5, batchSize, platform);
    checkAlternatives<GroupedMove, DelayedAcceptance>("framed_or_walk", "poor", 5, 64, platform);
    if (isDevice(platform))
        return;

    // The groups of a try are 64 proposals each, and the rest.

    checkAlternatives<GroupedMove, DelayedAcceptance>("framed", "true", 70, 64, platform, 2);
}

/**
 * Alternatives of blocks, one of them given its context, which the other moves; their local energies choose.
 */
template <class Flow> void checkBlocks(Platform& platform) {
    auto screen = [](BlockChain<Flow>& chain) {
        auto state = std::make_shared<TimewarpPlugin::SharedSystemState>();
        chain.around = [=](ContextImpl& context, const BlockAtoms& atoms, std::unique_ptr<FlowMove> flow) {
            auto terms = std::make_shared<TimewarpPlugin::SystemTerms>(context.getSystem(), -1);
            auto local = std::make_unique<TimewarpPlugin::LocalEnergy>(terms, atoms.particles, atoms.moved);
            auto delayed = std::make_unique<DelayedAcceptance>(
                    std::move(flow),
                    std::make_shared<TimewarpPlugin::LocalScreening>(std::move(local), state));
            delayed->setSubchainLength(6);
            return delayed;
        };
    };
    checkMoleculeAndPart<Flow>(SpringStar(0.06, 0.003), 1.0, 16, 6, platform, screen);
}

/** The fault: it picks among the alternatives alone, so that it always moves. */
class AlwaysMoves : public DelayedAcceptance {
public:
    using DelayedAcceptance::DelayedAcceptance;

protected:
    std::int64_t pick(const std::vector<double>& logWeights, double uniform) const override {
        std::vector<double> largeWeights;
        for (double logWeight : logWeights)
            largeWeights.push_back(logWeight + 50);
        return DelayedAcceptance::pick(largeWeights, uniform);
    }
};

/** The fault: energies alone decide, as if all were draws of a density that is the same everywhere. */
class ForgetsDensities : public GroupedMove {
public:
    using GroupedMove::GroupedMove;

protected:
    double logAcceptance(TimewarpPlugin::Target& target, std::int64_t entry, double energyChange) override {
        return -energyChange / target.getKT();
    }
};

/**
 * The fault: alternatives are steps from the state, and have nothing else in common.  Each of them alone
 * would be right; but from the one that is chosen, the others are not what could have been drawn.
 */
class HasNothingInCommon : public FlowMove {
public:
    HasNothingInCommon(std::shared_ptr<ProposalModel> model, const Kernel& kernel,
                       const BlockSurroundings& surroundings)
            : FlowMove(model, kernel, surroundings) {
        setLatentCorrelations({{LatentStep{0.8, 1.0}, 1.0}});
    }

protected:
    void draw(TimewarpPlugin::Target& target, std::int64_t start, const ProposalInputs& inputs,
              Draws& draws) override {
        FlowMove::draw(target, start, inputs, draws);
        draws.common.clear();
        for (double& correlation : draws.correlations)
            correlation *= correlation;
    }
};

void testInvarianceCanFail(Platform& platform) {
    const char* message = "distributions differ";
    assertThrows([&] { checkAlternatives<GroupedMove, AlwaysMoves>("framed", "true", 2, 64, platform, 12); },
                 message);
    assertThrows(
            [&] {
                checkAlternatives<ForgetsDensities, DelayedAcceptance>("framed", "true", 5, 64, platform);
            },
            message);
    assertThrows(
            [&] {
                checkAlternatives<HasNothingInCommon, DelayedAcceptance>("framed", "true", 30, 64, platform);
            },
            message);
    assertThrows([&] { checkBlocks<ForgetsDensities>(platform); }, message);
}

/**
 * With the System's own energy as the surrogate the second test has nothing to reject.
 */
void testTrueSurrogate(Platform& platform) {
    ChainIntegrator<GroupedMove> integrator(modelPath("framed", 4), 64, 7);
    integrator.setSurrogate(surrogateContent("true"), 8);
    AnharmonicWell target(4);
    auto system = target.createSystem();
    Context context(*system, integrator, platform);
    std::mt19937 random(6);
    context.setPositions(target.drawPositions(random));
    for (int i = 0; i < 300; i++) {
        const auto before = integrator.getCounters();
        integrator.step(1);
        const auto& after = integrator.getCounters();
        ASSERT_EQUAL(after.numSurrogateAccepted > before.numSurrogateAccepted,
                     after.numAccepted > before.numAccepted);
    }
    ASSERT(integrator.getCounters().numAccepted > 100);
}

void testBatchSizesAndResumption(Platform& platform) {
    checkBatchSizesAndResumption(platform, 53, [](TimewarpMCMCIntegrator& integrator) {
        integrator.setSurrogate(surrogateContent("poor"));
        integrator.setSubchainLength(9);
        integrator.setLatentCorrelations({0.0, 0.7, 0.0, 0.6}, {0.4, 0.2, 0.2, 0.2}, {1, 1, 0.3, 1},
                                         {0, 0, 0, 1});
    });
}

/**
 * Groups of all lengths of tries: none is larger than 64, all iterations are in one, and the sizes read the
 * same backwards.  (Groups of 64 and what remains, one after the other, do not.)
 */
void testGroupsReadTheSameBackwards() {
    using TimewarpPlugin::groupInTry;
    for (int length = 1; length < 600; length++) {
        std::vector<int64_t> sizes;
        for (int64_t next = 0; next < length;) {
            const auto group = groupInTry(next, length);
            ASSERT_EQUAL(next, group.start);
            ASSERT(group.end > next && group.end <= std::min<int64_t>(next + 64, length));
            for (int64_t i = group.start; i < group.end; i++)
                ASSERT(groupInTry(i, length).start == group.start && groupInTry(i, length).end == group.end);
            sizes.push_back(group.end - next);
            next = group.end;
        }
        ASSERT(std::equal(sizes.begin(), sizes.end(), sizes.rbegin()));
        if (length % 64 == 0)
            ASSERT_EQUAL(length / 64, (int)sizes.size());
    }
}

void runTests(Platform& platform) {
    testGroupsReadTheSameBackwards();
    if (standsForAllPrecisions(platform)) {
        testInvariance(platform);
        testTrueSurrogate(platform);
    }
    if (!isDevice(platform)) {
        checkBlocks<GroupedMove>(platform);
        testInvarianceCanFail(platform);
    }
    testBatchSizesAndResumption(platform);
}
