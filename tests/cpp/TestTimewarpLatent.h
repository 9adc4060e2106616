/*
 * Latent moves: proposals near the state in the flow's own variables.  Invariance as in
 * TestTimewarpInvariance.h, with a false-alarm rate of 1e-5 for each comparison.
 */
#include "TimewarpTestBlocks.h"

using TimewarpPlugin::LatentStep;

/** Most steps are small, in all latent variables or in some, torsions' among them; some are draws. */
const std::vector<std::pair<LatentStep, double>> MIXTURE{
        {{0.0, 1.0}, 0.2}, {{0.7, 1.0}, 0.2},    {{0.95, 1.0}, 0.2},  {{0.0, 0.3}, 0.2},
        {{0.5, 0.5}, 0.2}, {{0.0, 1.0, 1}, 0.2}, {{0.6, 1.0, 2}, 0.2}};

/**
 * A flow move with correlations from the beginning.
 */
class LatentMove : public FlowMove {
public:
    LatentMove(std::shared_ptr<ProposalModel> model, const Kernel& kernel,
               const BlockSurroundings& surroundings)
            : FlowMove(model, kernel, surroundings) {
        setLatentCorrelations(MIXTURE);
    }
};

/**
 * The fault: it forgets that the state's own variables belong to the way back, and takes proposals for draws
 * of a density that is the same everywhere.
 */
class ForgetfulMove : public LatentMove {
public:
    using LatentMove::LatentMove;

protected:
    double logAcceptance(TimewarpPlugin::Target& target, std::int64_t entry, double energyChange) override {
        return -energyChange / target.getKT();
    }
};

/**
 * The fault: proposals are correlated with something else than the state's own variables, as if nobody had
 * inverted the flow.
 */
class NotInvertingMove : public LatentMove {
public:
    using LatentMove::LatentMove;

protected:
    void draw(TimewarpPlugin::Target& target, std::int64_t start, const ProposalInputs& inputs,
              Draws& draws) override {
        LatentMove::draw(target, start, inputs, draws);
        ASSERT(!inputs.onDevice);
        if (inputs.isDouble)
            correlate(static_cast<double*>(inputs.noise), inputs, draws);
        else
            correlate(static_cast<float*>(inputs.noise), inputs, draws);

        // The model has nothing left to do.

        draws.correlations.clear();
    }
    /** Get what it takes for the state's variables. */
    virtual double assumed(double ofLastProposal) const = 0;

private:
    template <class Real> void correlate(Real* noise, const ProposalInputs& inputs, const Draws& draws) {
        last.resize(inputs.noiseSize);
        for (int i = 0; i < inputs.size; i++)
            for (int k = 0; k < inputs.noiseSize; k++) {
                const double rho =
                        draws.correlations.empty() ? 0.0 : draws.correlations[i * inputs.noiseSize + k];
                double value =
                        rho * assumed(last[k]) + std::sqrt(1 - rho * rho) * noise[i * inputs.noiseSize + k];
                noise[i * inputs.noiseSize + k] = last[k] = value;
            }
    }
    std::vector<double> last;
};

/** As if every state were the middle one. */
class MoveAboutTheMiddle : public NotInvertingMove {
public:
    using NotInvertingMove::NotInvertingMove;

protected:
    double assumed(double) const override {
        return 0;
    }
};

/** As if every proposal had been accepted.  Steps are small, for only then does it matter. */
class MoveFromTheLastProposal : public NotInvertingMove {
public:
    MoveFromTheLastProposal(std::shared_ptr<ProposalModel> model, const Kernel& kernel,
                            const BlockSurroundings& surroundings)
            : NotInvertingMove(model, kernel, surroundings) {
        setLatentCorrelations({{LatentStep{0.97, 1.0}, 1.0}});
    }

protected:
    double assumed(double ofLastProposal) const override {
        return ofLastProposal;
    }
};

/**
 * Apply steps to exact draws and compare with other exact draws.
 */
template <class Flow>
double checkInvariance(const Target& target, const std::string& model, int batchSize, int steps,
                       Platform& platform) {
    const int numDraws = 600, numExact = 6000;
    auto system = target.createSystem();
    ChainIntegrator<Flow> integrator(modelPath(model, target.numParticles), batchSize, 23);
    Context context(*system, integrator, platform);
    startAtZero(context);
    std::mt19937 random(batchSize);
    std::vector<std::vector<double>> found(3), exact(3);
    auto add = [&](std::vector<std::vector<double>>& columns, const std::vector<Vec3>& positions) {
        columns[0].push_back(target.energy(positions));
        columns[1].push_back(positions.front()[0]);
        columns[2].push_back(positions.back()[2]);
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
    ASSERT(integrator.getCounters().numAccepted > numDraws / 10);
    return integrator.getCounters().numAccepted / (double)integrator.getCounters().numTried;
}

void testInvariance(Platform& platform) {
    for (int batchSize : batchSizesOn(platform))
        for (const char* model : {"framed", "framed_or_walk"})
            checkInvariance<LatentMove>(AnharmonicWell(4), model, batchSize, 5, platform);
}

void testInvarianceCanFail(Platform& platform) {
    assertThrows([&] { checkInvariance<ForgetfulMove>(AnharmonicWell(4), "framed", 64, 5, platform); },
                 "distributions differ");
    if (platform.getName() != "Reference")
        return; // the chain is the same, and on CUDA a test does not get at the noise
    assertThrows([&] { checkInvariance<MoveAboutTheMiddle>(AnharmonicWell(4), "framed", 64, 5, platform); },
                 "distributions differ");
    assertThrows(
            [&] { checkInvariance<MoveFromTheLastProposal>(AnharmonicWell(4), "framed", 64, 40, platform); },
            "distributions differ");
}

/**
 * The state's variables are those of the context that it has now.
 */
template <class Flow> void checkBlocks(int batchSize, int proposals, Platform& platform) {
    checkMoleculeAndPart<Flow>(SpringStar(0.06, 0.003), 1.0, batchSize, proposals, platform);
}

void testBlocks(Platform& platform) {
    for (int batchSize : {1, 16})
        checkBlocks<LatentMove>(batchSize, 12, platform);
}

void testBlocksCanFail(Platform& platform) {
    if (platform.getName() != "Reference")
        return;
    assertThrows([&] { checkBlocks<ForgetfulMove>(16, 12, platform); }, "distributions differ");
    assertThrows([&] { checkBlocks<MoveAboutTheMiddle>(16, 12, platform); }, "distributions differ");
    assertThrows([&] { checkBlocks<MoveFromTheLastProposal>(16, 40, platform); }, "distributions differ");
}

void testBatchSizesAndResumption(Platform& platform) {
    checkBatchSizesAndResumption(platform, 100, [](TimewarpMCMCIntegrator& integrator) {
        integrator.setLatentCorrelations({0.0, 0.7, 0.95, 0.0, 0.0}, {0.2, 0.4, 0.2, 0.2, 0.2},
                                         {1, 1, 1, 0.3, 1}, {0, 0, 0, 0, 1});
    });
}

/** What a chain has come to. */
struct Outcome {
    double acceptanceRate;
    std::vector<Vec3> end;
};

/**
 * Run a chain whose proposals all make such a step, or are independent draws without anything being set.
 */
Outcome runSteps(Platform& platform, const LatentStep* step) {
    AnharmonicWell target(4);
    auto system = createSystemFor(target, "framed");
    TimewarpMCMCIntegrator integrator(modelPath("framed", 4));
    if (step != NULL)
        integrator.setLatentCorrelations({step->correlation}, {1.0}, {step->share}, {step->torsions});
    integrator.setRandomNumberSeed(4);
    Context context(*system, integrator, platform);
    std::mt19937 random(6);
    context.setPositions(target.drawPositions(random));
    integrator.step(1500);
    return {integrator.getAcceptanceRate(), context.getState(State::Positions).getPositions()};
}

/**
 * Correlations of 0 are the chain without any; the nearer to 1, and the fewer variables are drawn, the more
 * is accepted.
 */
void testAcceptanceRises(Platform& platform) {
    auto rateOf = [&](const LatentStep& step) { return runSteps(platform, &step).acceptanceRate; };
    const LatentStep draw;
    const Outcome draws = runSteps(platform, &draw);
    ASSERT(draws.end == runSteps(platform, NULL).end);
    const double near = rateOf({0.8, 1.0}), half = rateOf({0.0, 0.5}), few = rateOf({0.0, 0.1});
    ASSERT(draws.acceptanceRate + 0.03 < near && near < rateOf({0.99, 1.0}));
    ASSERT(draws.acceptanceRate + 0.03 < half && half + 0.03 < few && few < 1);
    const double two = rateOf({0.0, 1.0, 2}), one = rateOf({0.0, 1.0, 1});
    ASSERT(half < two && two + 0.03 < one && one < 1);
}

/**
 * A step of torsions draws as many of the named numbers of the noise as it says, each as often, and keeps all
 * others; if it asks for more than there are, it draws them all.
 */
class TorsionMove : public FlowMove {
public:
    TorsionMove(std::shared_ptr<ProposalModel> model, const Kernel& kernel,
                const BlockSurroundings& surroundings)
            : FlowMove(model, kernel, surroundings) {
        setLatentCorrelations({{LatentStep{0.25, 1.0, 1}, 1.0}, {LatentStep{0.75, 1.0, 9}, 1.0}});
    }
    /** How often each number of the noise was drawn by steps of one torsion, and of nine. */
    static std::map<int, int> ofOne, ofNine;

protected:
    void draw(TimewarpPlugin::Target& target, std::int64_t start, const ProposalInputs& inputs,
              Draws& draws) override {
        FlowMove::draw(target, start, inputs, draws);
        for (size_t i = 0; i < draws.correlations.size(); i++) {
            const double correlation = draws.correlations[i];
            if (correlation == 0.25)
                ofOne[i % inputs.noiseSize]++;
            else if (correlation == 0.75)
                ofNine[i % inputs.noiseSize]++;
            else
                ASSERT_EQUAL(1.0, correlation);
        }
    }
};

std::map<int, int> TorsionMove::ofOne, TorsionMove::ofNine;

void testTorsionsThatAreDrawn(Platform& platform) {
    AnharmonicWell target(4);
    auto system = target.createSystem();
    // No iteration is drawn twice, as those that are prefetched and thrown away are.
    ChainIntegrator<TorsionMove> integrator(modelPath("framed", 4), 1, 3);
    Context context(*system, integrator, platform);
    std::mt19937 random(6);
    context.setPositions(target.drawPositions(random));
    TorsionMove::ofOne.clear();
    TorsionMove::ofNine.clear();
    integrator.step(1000);

    // What the model names, in tests/python/reference_models.py.

    const std::vector<int> named{0, 2, 7};
    double ofOne = 0, ofNine = 0;
    for (int k : named) {
        ofOne += TorsionMove::ofOne[k];
        ofNine += TorsionMove::ofNine[k] / 3.0;
    }
    ASSERT(ofOne > 400 && ofNine > 400);
    for (int k : named) {
        // 5 standard deviations.
        ASSERT_EQUAL_TOL(ofOne / 3, TorsionMove::ofOne[k], 5 * std::sqrt(ofOne * 2 / 9) / (ofOne / 3));
        ASSERT_EQUAL(ofNine, TorsionMove::ofNine[k]);
    }
    ASSERT_EQUAL(named.size(), TorsionMove::ofOne.size());
    ASSERT_EQUAL(named.size(), TorsionMove::ofNine.size());
}

void testRefusals(Platform& platform) {
    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    assertThrows([&] { integrator.setLatentCorrelations({0.5}, {}); }, "as many weights");
    for (double rho : {-0.1, 1.0, std::nan("")})
        assertThrows([&] { integrator.setLatentCorrelations({rho}, {1.0}); }, "at least 0 and less than 1");
    assertThrows([&] { integrator.setLatentCorrelations({0.5}, {-1.0}); }, "must not be negative");
    assertThrows([&] { integrator.setLatentCorrelations({0.5}, {0.0}); }, "must be positive");
    assertThrows([&] { integrator.setLatentCorrelations({0.5}, {1.0}, {0.5, 0.5}); }, "as many shares");
    for (double share : {0.0, 1.1, std::nan("")})
        assertThrows([&] { integrator.setLatentCorrelations({0.5}, {1.0}, {share}); },
                     "above 0, and 1 at most");
    assertThrows([&] { integrator.setLatentCorrelations({0.5}, {1.0}, {}, {1, 1}); },
                 "as many numbers of torsions");
    assertThrows([&] { integrator.setLatentCorrelations({0.5}, {1.0}, {}, {-1}); }, "must not be negative");
    assertThrows([&] { integrator.setLatentCorrelations({0.5}, {1.0}, {0.5}, {1}); },
                 "either torsions or a share");
    TimewarpMCMCIntegrator silent(modelPath("lags", 4));
    silent.setLatentCorrelations({0.0}, {1.0}, {}, {1});
    assertThrows([&] { Context context(*AnharmonicWell(4).createSystem(), silent, platform); },
                 "does not say which numbers of its noise make rotatable torsions");
    integrator.setLatentCorrelations({0.5}, {1.0});
    auto system = AnharmonicWell(4).createSystem();
    assertThrows([&] { Context context(*system, integrator, platform); }, "draw independently of the state");
}

void runTests(Platform& platform) {
    if (standsForAllPrecisions(platform)) {
        testInvariance(platform);
        testBlocks(platform);
        testAcceptanceRises(platform);
        testTorsionsThatAreDrawn(platform);
        testRefusals(platform);
    }
    if (!isDevice(platform)) {
        testInvarianceCanFail(platform);
        testBlocksCanFail(platform);
    }
    testBatchSizesAndResumption(platform);
}
