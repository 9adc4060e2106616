/*
 * Single decisions of the chain: against an analytic acceptance ratio, in the mean, and for proposals that no
 * decision may be left to.
 */
#include "IterationNoise.h"
#include "TimewarpTestChain.h"
#include "TimewarpTestForce.h"
#include "TimewarpTestTargets.h"
#include <limits>

using TimewarpPlugin::IterationNoise;
using TimewarpPlugin::RandomKey;
using TimewarpPlugin::thermodynamicState;

/**
 * The model "sided" is affine: y = -x + c z_p, w = z_v + d(x) with d(x) = (b, 0, 0) where x[0] is positive.
 * The iterations' random numbers are known, so each decision can be foretold.
 */
void testAnalyticAcceptanceRatio(int batchSize, Platform& platform) {
    const double b = 3.0, c = 0.02;
    const int seed = 23, iterations = 1500;
    DoubleWell well(1);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("sided", 1));
    integrator.setBatchSize(batchSize);
    integrator.setRandomNumberSeed(seed);
    Context context(*system, integrator, platform);
    startAtZero(context);
    auto mark = [&](const Vec3& position) { return position[0] > 0 ? b : 0.0; };
    int accepted = 0, closeToTheLimit = 0;
    const RandomKey key({seed, thermodynamicState(TEMPERATURE, integrator.getIntegrationForceGroups(),
                                                  context.getParameters())});
    for (int i = 1; i <= iterations; i++) {
        Vec3 x = context.getState(State::Positions).getPositions()[0];
        IterationNoise random(key, i);
        double logUniform = std::log(random.uniform());
        random.uniform(); // picks the lag time
        float v[3], z[6];
        random.normal(v, 3);
        random.normal(z, 6);
        Vec3 y = Vec3(z[0], z[1], z[2]) * c - x;
        double w = z[3] + mark(x);
        double logRatio = -(well.particleEnergy(y) - well.particleEnergy(x)) / KT + v[0] * mark(y) -
                          0.5 * mark(y) * mark(y) - w * mark(x) + 0.5 * mark(x) * mark(x);
        bool accept = logUniform < logRatio;
        integrator.step(1);
        State state = context.getState(State::Positions | State::Velocities);
        Vec3 velocity = state.getVelocities()[0] * std::sqrt(system->getParticleMass(0) / KT);
        if (std::fabs(logUniform - logRatio) < 1e-4)
            closeToTheLimit++;
        else {
            ASSERT_EQUAL_VEC(accept ? y : x, state.getPositions()[0], 1e-6);
            ASSERT_EQUAL_VEC(accept ? Vec3(w, z[4], z[5]) : Vec3(v[0], v[1], v[2]), velocity, 1e-5);
        }
        accepted += accept;
    }
    ASSERT(accepted > 100 && accepted < iterations / 2);
    ASSERT(closeToTheLimit < 5);
}

/**
 * A move that remembers acceptance ratios.
 */
class RecordingMove : public FlowMove {
public:
    using FlowMove::FlowMove;
    std::vector<double> ratios;

protected:
    double logAcceptance(TimewarpPlugin::Target& target, std::int64_t entry, double energyChange) override {
        double logRatio = FlowMove::logAcceptance(target, entry, energyChange);
        ratios.push_back(std::exp(logRatio));
        return logRatio;
    }
};

/**
 * Get the acceptance ratios of one iteration from each of many exact draws.
 */
std::vector<double> acceptanceRatios(const Target& target, const std::string& model, Platform& platform) {
    const int numDraws = 2000;
    auto system = target.createSystem();
    ChainIntegrator<RecordingMove> integrator(modelPath(model, target.numParticles), 1, 5);
    Context context(*system, integrator, platform);
    startAtZero(context);
    std::vector<double>& ratios = integrator.getMove().ratios;
    ratios.clear();
    std::mt19937 random(11);
    for (int i = 0; i < numDraws; i++) {
        context.setPositions(target.drawPositions(random));
        integrator.step(1);
    }
    ASSERT_EQUAL(numDraws, (int)ratios.size());
    return ratios;
}

/**
 * Assert that numbers have a mean, to 4.4 standard errors (1e-5), which must be small enough to tell.
 */
void assertMean(double expected, const std::vector<double>& values, double largestError) {
    double sum = 0, squares = 0, count = values.size();
    for (double value : values) {
        sum += value;
        squares += value * value;
    }
    double mean = sum / count, error = std::sqrt((squares / count - mean * mean) / count);
    ASSERT(error < largestError);
    ASSERT(std::fabs(mean - expected) < 4.4 * error);
}

/**
 * Under the target the acceptance ratio has the mean 1, for any flow.  Seen best where its variance is small.
 */
void testMeanAcceptanceRatio(const Target& target, const std::string& model, Platform& platform) {
    assertMean(1.0, acceptanceRatios(target, model, platform), 0.1);
}

/**
 * The way back has the inverse ratio, so f(a) and a f(a) have the same mean for all functions with f(a) =
 * f(1/a). With f(a) = a/(1+a)^2 all is bounded, however wild the flow.
 */
void testBalanceOfAcceptanceRatios(const Target& target, const std::string& model, Platform& platform) {
    std::vector<double> differences;
    for (double a : acceptanceRatios(target, model, platform))
        differences.push_back(a < 1e100 ? a * (1 - a) / ((1 + a) * (1 + a)) : -1.0);
    assertMean(0.0, differences, 0.02);
}

/**
 * Whatever is not finite is rejected and counted, the positions stay bit for bit, and the energy of it is not
 * even asked for.
 */
void testNonFiniteProposalsDoNotReachTheEnergy(Platform& platform) {
    for (const char* model : {"infinite_forward", "nan_forward", "infinite_back", "nan_back", "broken"}) {
        AnharmonicWell well(4);
        auto system = well.createSystem();
        auto* watch = new WatchForce();
        system->addForce(watch);
        TimewarpMCMCIntegrator integrator(modelPath(model, 4));
        integrator.setRandomNumberSeed(2);
        Context context(*system, integrator, platform);
        std::mt19937 random(1);
        context.setPositions(well.drawPositions(random));
        std::vector<Vec3> start = context.getState(State::Positions).getPositions();
        watch->numEnergies = 0;
        integrator.step(100);
        if (std::string(model) == "broken") {
            ASSERT(integrator.getNumNonFinite() > 20 && integrator.getNumNonFinite() < 80);
            ASSERT_EQUAL(1 + 100 - integrator.getNumNonFinite(), watch->numEnergies);
            continue;
        }
        ASSERT_EQUAL(100, integrator.getNumNonFinite());
        ASSERT_EQUAL(0, integrator.getNumAccepted());
        ASSERT_EQUAL(1, watch->numEnergies); // that of the state itself
        ASSERT(start == context.getState(State::Positions).getPositions());
    }
}

/**
 * From where independent draws have no density, moves of a finite lag time lead away; without those, an
 * exception says that there is no way.
 */
void testStateThatCannotBeDrawn(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    std::vector<Vec3> outside(4);
    outside[1] = Vec3(0.3, 0, 0);
    TimewarpMCMCIntegrator mixed(modelPath("bounded", 4)), draws(modelPath("bounded_draws", 4));
    mixed.setRandomNumberSeed(1);
    Context context(*system, mixed, platform);
    startAtZero(context);
    context.setPositions(outside);
    mixed.step(200);
    ASSERT(context.getState(State::Positions).getPositions()[1][0] < 0.3);
    Context context2(*system, draws, platform);
    startAtZero(context2);
    context2.setPositions(outside);
    assertThrows([&] { draws.step(1); }, "none that the model can propose");
    context2.setPositions(std::vector<Vec3>(4));
    draws.step(10);
}

/**
 * Virtual sites that depend on the model's atoms are where they belong, also after a rejection.
 */
void testVirtualSitesFollow(Platform& platform) {
    for (double k : {50.0, 1e12}) {
        AnharmonicWell well(4);
        well.k = k;
        auto system = well.createSystem();
        system->addParticle(0.0);
        system->setVirtualSite(4, new TwoParticleAverageSite(0, 1, 0.25, 0.75));
        TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
        integrator.setParticles({0, 1, 2, 3});
        integrator.setRandomNumberSeed(3);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(5));
        for (int i = 0; i < 20; i++) {
            integrator.step(1);
            auto p = context.getState(State::Positions).getPositions();
            ASSERT_EQUAL_VEC(p[0] * 0.25 + p[1] * 0.75, p[4], toleranceOn(platform, 1e-12, 1e-6));
        }
        ASSERT_EQUAL(k > 1e10, integrator.getNumAccepted() == 0);
    }
}

/**
 * A move whose decisions may fail, as they do where the model is interrupted while it computes the density
 * of the state.
 */
class UndecidedMove : public FlowMove {
public:
    using FlowMove::FlowMove;
    bool fails = false;

protected:
    double logAcceptance(TimewarpPlugin::Target& target, std::int64_t entry, double energyChange) override {
        if (fails)
            throw OpenMMException("no decision");
        return FlowMove::logAcceptance(target, entry, energyChange);
    }
};

/**
 * A decision that fails leaves the state as it was, and the chain goes on as if it had not.
 */
void testFailingDecision(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    ChainIntegrator<UndecidedMove> failing(modelPath("lags", 4), 8, 3), whole(modelPath("lags", 4), 8, 3);
    Context context(*system, failing, platform), other(*system, whole, platform);
    for (Context* c : {&context, &other}) {
        c->setPositions(std::vector<Vec3>(4));
        c->getIntegrator().step(20);
    }
    std::vector<Vec3> before = context.getState(State::Positions).getPositions();
    for (int i = 0; i < 3; i++) {
        failing.getMove().fails = true;
        assertThrows([&] { failing.step(1); }, "no decision");
        failing.getMove().fails = false;
        ASSERT_EQUAL(0, maxDifference(before, context.getState(State::Positions).getPositions()));
        failing.step(10);
        whole.step(10);
        before = context.getState(State::Positions).getPositions();
        ASSERT_EQUAL(0, maxDifference(before, other.getState(State::Positions).getPositions()));
    }
}

void runTests(Platform& platform) {
    testFailingDecision(platform);
    testVirtualSitesFollow(platform);
    if (!standsForAllPrecisions(platform))
        return;
    testAnalyticAcceptanceRatio(1, platform);
    testAnalyticAcceptanceRatio(64, platform);
    testMeanAcceptanceRatio(AnharmonicWell(1), "affine", platform);
    testBalanceOfAcceptanceRatios(AnharmonicWell(1), "lags", platform);
    testBalanceOfAcceptanceRatios(AnharmonicWell(1), "tilted", platform);
    testBalanceOfAcceptanceRatios(AnharmonicWell(4), "random", platform);
    testBalanceOfAcceptanceRatios(TorsionRing(1), "torsion", platform);
    testBalanceOfAcceptanceRatios(DoubleWell(1), "sided", platform);
    testNonFiniteProposalsDoNotReachTheEnergy(platform);
    testStateThatCannotBeDrawn(platform);
}
