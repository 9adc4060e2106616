/*
 * Delayed acceptance: proposals are tested with a surrogate energy first, and the System's energy decides on
 * where they have led.  Invariance as in TestTimewarpInvariance.h, with a false-alarm rate of 1e-5 for each
 * comparison.
 */
#include "IterationNoise.h"
#include "TimewarpTestChain.h"
#include "TimewarpTestTargets.h"

using TimewarpPlugin::IterationNoise;
using TimewarpPlugin::RandomKey;
using TimewarpPlugin::thermodynamicState;

/**
 * What is compared: some positions, auxiliary velocities, and products of both, in which it would show if
 * the velocities after a step were not independent of the positions.
 */
struct Observations {
    std::vector<std::vector<double>> columns{6};

    void add(const Target& target, const std::vector<Vec3>& positions, const std::vector<Vec3>& velocities) {
        columns[0].push_back(target.energy(positions));
        columns[1].push_back(positions.front()[0]);
        columns[2].push_back(positions.back()[2]);
        columns[3].push_back(velocities.front()[0]);
        columns[4].push_back(velocities.back()[2]);
        columns[5].push_back(positions.front()[0] * velocities.front()[0]);
    }
};

/**
 * Draw velocities of particles of 10 dalton from the Maxwell-Boltzmann distribution.
 */
std::vector<Vec3> drawVelocities(int count, std::mt19937& random) {
    std::normal_distribution<double> normal(0.0, std::sqrt(KT / 10.0));
    std::vector<Vec3> velocities(count);
    for (Vec3& v : velocities) {
        double x = normal(random), y = normal(random), z = normal(random);
        v = Vec3(x, y, z);
    }
    return velocities;
}

/**
 * Apply steps to exact draws and compare with other exact draws.
 */
template <class Delayed>
void checkTwoStages(const Target& target, const std::string& model, const std::string& surrogate, int length,
                    int batchSize, Platform& platform, int steps = 3, int numDraws = 400) {
    const int numExact = 6000;
    auto system = target.createSystem();
    ChainIntegrator<FlowMove, Delayed> integrator(modelPath(model, target.numParticles), batchSize, 23);
    integrator.setSurrogate(surrogateContent(surrogate), length);
    Context context(*system, integrator, platform);
    startAtZero(context);
    std::mt19937 random(batchSize + length);
    Observations found, exact;
    for (int i = 0; i < numDraws; i++) {
        context.setPositions(target.drawPositions(random));
        integrator.step(steps);
        State state = context.getState(State::Positions | State::Velocities);
        found.add(target, state.getPositions(), state.getVelocities());
    }
    for (int i = 0; i < numExact; i++)
        exact.add(target, target.drawPositions(random), drawVelocities(target.numParticles, random));
    for (size_t i = 0; i < exact.columns.size(); i++)
        assertSameDistribution(found.columns[i], exact.columns[i]);

    // Both tests must have had something to decide.

    auto& counters = integrator.getCounters();
    ASSERT_EQUAL(steps * numDraws + 1, counters.numTried);
    ASSERT_EQUAL(length * counters.numTried, counters.iteration);
    ASSERT(counters.numAccepted > 20);
    ASSERT(counters.numSurrogateAccepted > counters.numAccepted);
}

void testInvariance(Platform& platform) {
    for (int length : {1, 6}) {
        for (int batchSize : batchSizesOn(platform))
            for (const char* model : {"affine", "lags", "framed_or_walk"})
                checkTwoStages<DelayedAcceptance>(AnharmonicWell(4), model, "poor", length, batchSize,
                                                  platform);
        if (isDevice(platform))
            continue;
        checkTwoStages<DelayedAcceptance>(DoubleWell(1), "sided", "leaning", length, 64, platform, 2, 2000);
        checkTwoStages<DelayedAcceptance>(CoupledOscillators(4), "random", "poor", length, 64, platform, 8);
    }
}

/**
 * The fault: the second test lets everything pass, so that the surrogate's distribution is sampled.
 */
class CarelessDelay : public DelayedAcceptance {
public:
    using DelayedAcceptance::DelayedAcceptance;

protected:
    double logSecondAcceptance(double energyChange, double surrogateChange, double kT) const override {
        return 0;
    }
};

void testInvarianceCanFail(Platform& platform) {
    assertThrows([&] { checkTwoStages<CarelessDelay>(AnharmonicWell(4), "lags", "poor", 6, 64, platform); },
                 "distributions differ");
}

/**
 * What the chain keeps of its state, so that it need not be computed again, is that of the state: also after
 * subchains that were rejected.
 */
void testWhatIsKnownOfTheState(Platform& platform) {
    AnharmonicWell target(4);
    auto system = target.createSystem();
    TimewarpPlugin::SurrogateEnergy surrogate(surrogateContent("leaning"));
    for (const char* model : {"lags", "framed", "framed_or_walk"}) {
        ChainIntegrator<> integrator(modelPath(model, 4), 64, 14);
        integrator.setSurrogate(surrogate.getContent(), 6);
        Context context(*system, integrator, platform);
        startAtZero(context);
        int numKnown = 0;
        for (int i = 0; i < 200; i++) {
            integrator.step(1);
            const auto& ofSurrogate = integrator.getDelayed().getStateEnergy();
            const auto& ofFlow = integrator.getMove().getLogDensity();
            const auto revision = integrator.getMove().getState().revision;
            std::vector<Vec3> positions = context.getState(State::Positions).getPositions();
            ASSERT(ofSurrogate.isOf(revision));
            ASSERT_EQUAL_TOL(surrogate.compute(integrator.lendDevice(), positions), ofSurrogate.value, 1e-4);
            if (ofFlow.isOf(revision)) {
                double expected =
                        integrator.getModel().independentLogDensity(integrator.lendDevice(), positions);
                ASSERT_EQUAL_TOL(expected, ofFlow.value, 1e-4);
                numKnown++;
            }
        }
        auto& counters = integrator.getCounters();
        ASSERT(numKnown > 20);
        ASSERT(counters.numAccepted > 20 && counters.numAccepted < 180);
    }
}

/**
 * A rejected subchain returns to the velocities that it began with; one that led nowhere leaves those of its
 * last iteration.
 */
void testVelocitiesAfterRejection(Platform& platform) {
    const int length = 6, seed = 23;
    AnharmonicWell target(4);
    auto system = target.createSystem();
    ChainIntegrator<> integrator(modelPath("affine", 4), 64, seed);
    integrator.setSurrogate(surrogateContent("leaning"), length);
    Context context(*system, integrator, platform);
    startAtZero(context);
    const RandomKey key({seed, thermodynamicState(TEMPERATURE, integrator.getIntegrationForceGroups(),
                                                  context.getParameters())});
    int numReturned = 0;
    for (int i = 0; i < 200; i++) {
        const auto before = integrator.getCounters();
        integrator.step(1);
        const auto& after = integrator.getCounters();
        if (after.numAccepted > before.numAccepted)
            continue;
        bool returned = (after.numSurrogateAccepted > before.numSurrogateAccepted);
        numReturned += returned;
        IterationNoise random(key, returned ? before.iteration : after.iteration - 1);
        random.uniform();
        random.uniform();
        float v[12];
        random.normal(v, 12);
        State state = context.getState(State::Velocities);
        for (int k = 0; k < 4; k++)
            ASSERT_EQUAL_VEC(Vec3(v[3 * k], v[3 * k + 1], v[3 * k + 2]),
                             state.getVelocities()[k] * std::sqrt(system->getParticleMass(k) / KT), 1e-5);
    }
    ASSERT(numReturned > 20);
}

/**
 * With the System's own energy as a surrogate the second test has nothing to reject, and the decisions are
 * those of a chain without one.
 */
void testTrueSurrogate(Platform& platform) {
    AnharmonicWell target(4);
    auto system = target.createSystem();
    for (const char* model : {"affine", "lags"}) {
        std::mt19937 random(6);
        std::vector<Vec3> start = target.drawPositions(random);
        TimewarpMCMCIntegrator plain(modelPath(model, 4)), once(modelPath(model, 4)),
                many(modelPath(model, 4));
        once.setSurrogate(surrogateContent("true"));
        many.setSurrogate(surrogateContent("true"));
        many.setSubchainLength(10);
        std::vector<std::vector<Vec3>> ends;
        for (TimewarpMCMCIntegrator* integrator : {&plain, &once, &many}) {
            integrator->setRandomNumberSeed(8);
            Context context(*system, *integrator, platform);
            context.setPositions(start);
            integrator->step(400 / integrator->getSubchainLength());
            ends.push_back(context.getState(State::Positions).getPositions());
        }
        ASSERT_EQUAL(plain.getNumAccepted(), once.getNumAccepted());
        ASSERT_EQUAL_TOL(plain.getAcceptanceRate(), many.getSurrogateAcceptanceRate(), 1e-12);
        for (size_t end : {1, 2})
            for (int i = 0; i < 4; i++)
                ASSERT_EQUAL_VEC(ends[0][i], ends[end][i], toleranceOn(platform, 1e-5, 1e-4));
    }
}

/**
 * The chain does not depend on how many proposals are prefetched.
 */
void testBatchSizes(Platform& platform) {
    AnharmonicWell target(4);
    for (const char* model : {"affine", "lags", "framed", "framed_or_walk"}) {
        auto system = createSystemFor(target, model);
        std::vector<long long> accepted;
        std::vector<Vec3> first;
        for (int batchSize : {1, 7, 64}) {
            TimewarpMCMCIntegrator integrator(modelPath(model, 4));
            integrator.setSurrogate(surrogateContent("poor"));
            integrator.setSubchainLength(5);
            integrator.setBatchSize(batchSize);
            integrator.setRandomNumberSeed(9);
            Context context(*system, integrator, platform);
            std::mt19937 random(6);
            context.setPositions(target.drawPositions(random));
            integrator.step(200);
            std::vector<Vec3> positions = context.getState(State::Positions).getPositions();
            if (first.empty())
                first = positions;
            for (int i = 0; i < 4; i++)
                ASSERT_EQUAL_VEC(first[i], positions[i], toleranceOn(platform, 1e-5, 1e-4));
            accepted.push_back(integrator.getNumAccepted());
        }
        ASSERT(accepted[0] > 5);
        ASSERT_EQUAL(accepted[0], accepted[1]);
        ASSERT_EQUAL(accepted[0], accepted[2]);
    }
}

/**
 * From a checkpoint and from a State the chain goes on bit for bit.
 */
void testResume(Platform& platform) {
    AnharmonicWell target(4);
    for (const char* model : {"affine", "lags", "framed", "framed_or_walk"}) {
        auto system = createSystemFor(target, model);
        TimewarpMCMCIntegrator first(modelPath(model, 4)), second(modelPath(model, 4));
        for (TimewarpMCMCIntegrator* integrator : {&first, &second}) {
            integrator->setSurrogate(surrogateContent("poor"));
            integrator->setSubchainLength(3);
        }
        first.setRandomNumberSeed(10);
        Context context1(*system, first, platform), context2(*system, second, platform);
        std::mt19937 random(6);
        context1.setPositions(target.drawPositions(random));
        for (int steps : {1, 7, 20}) {
            first.step(steps);
            std::stringstream checkpoint;
            context1.createCheckpoint(checkpoint);
            State state =
                    context1.getState(State::Positions | State::Velocities | State::IntegratorParameters);
            first.step(50);
            State expected = context1.getState(State::Positions | State::Velocities);
            for (bool fromCheckpoint : {true, false}) {
                if (fromCheckpoint)
                    context2.loadCheckpoint(checkpoint);
                else
                    context2.setState(state);
                second.step(50);
                State found = context2.getState(State::Positions | State::Velocities);
                ASSERT(expected.getPositions() == found.getPositions());
                ASSERT(expected.getVelocities() == found.getVelocities());
                ASSERT_EQUAL(first.getNumAccepted(), second.getNumAccepted());
                ASSERT_EQUAL(first.getSurrogateAcceptanceRate(), second.getSurrogateAcceptanceRate());
            }
        }
        ASSERT(first.getNumAccepted() > 5);
    }
}

/**
 * A checkpoint can be loaded with another surrogate: what was known of the old one is forgotten.
 */
void testAnotherSurrogate(Platform& platform) {
    AnharmonicWell target(4);
    auto system = target.createSystem();
    TimewarpMCMCIntegrator first(modelPath("lags", 4)), second(modelPath("lags", 4));
    first.setSurrogate(surrogateContent("poor"));
    second.setSurrogate(surrogateContent("true"));
    first.setRandomNumberSeed(12);
    second.setRandomNumberSeed(13);
    Context context1(*system, first, platform), context2(*system, second, platform);
    std::mt19937 random(6);
    context1.setPositions(target.drawPositions(random));
    first.step(20);
    std::stringstream checkpoint;
    context1.createCheckpoint(checkpoint);
    context2.loadCheckpoint(checkpoint);
    long long moved = second.getNumAccepted();
    double before = second.getSurrogateAcceptanceRate() * 20;
    second.step(200);

    // Every proposal that the true energy accepts is accepted again.

    ASSERT_EQUAL_TOL(second.getSurrogateAcceptanceRate() * 220 - before, second.getNumAccepted() - moved,
                     1e-9);
}

void testRefusals(Platform& platform) {
    AnharmonicWell target(4);
    auto system = target.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
    assertThrows([&] { integrator.setSubchainLength(0); }, "Subchain length must be positive");
    assertThrows([&] { integrator.setSurrogate("nothing"); }, "not a TorchScript module, or is damaged");
    ASSERT(integrator.getSurrogate().empty());
    integrator.setSurrogate(surrogateContent("single"));
    {
        Context context(*system, integrator, platform);
        assertThrows([&] { integrator.setSurrogate(""); }, "cannot be called after");
        context.setPositions(std::vector<Vec3>(4));
        assertThrows([&] { integrator.step(1); }, "one float64 energy for each");
    }
    TimewarpMCMCIntegrator other(modelPath("lags", 4));
    other.setSurrogate(surrogateContent("bounded"));
    Context context(*system, other, platform);
    context.setPositions(std::vector<Vec3>(4, Vec3(0.5, 0, 0)));
    assertThrows([&] { other.step(1); }, "the surrogate's energy of the current state is not finite");

    // Proposals of which the surrogate knows nothing are rejected, and the Context can still be used.

    context.setPositions(std::vector<Vec3>(4));
    for (int i = 0; i < 500; i++) {
        other.step(1);
        State state = context.getState(State::Positions);
        for (const Vec3& p : state.getPositions())
            ASSERT(p[0] <= 0.3 + 1e-6);
    }
    ASSERT_EQUAL(500, other.getNumProposed());
    ASSERT(other.getNumNonFinite() > 0 && other.getNumAccepted() > 0);
}

void runTests(Platform& platform) {
    if (standsForAllPrecisions(platform)) {
        testInvariance(platform);
        testWhatIsKnownOfTheState(platform);
        testTrueSurrogate(platform);
        testBatchSizes(platform);
        testAnotherSurrogate(platform);
        testRefusals(platform);
    }
    if (!isDevice(platform))
        testInvarianceCanFail(platform);
    testVelocitiesAfterRejection(platform);
    testResume(platform);
}
