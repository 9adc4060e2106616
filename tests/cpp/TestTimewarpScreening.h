/*
 * Screening of blocks by their local energies, in the surroundings that a block has now: other blocks,
 * dynamics and barostats change them from one try to the next.
 */
#include "TimewarpTestScreening.h"

/** The fault: what was prefetched is not screened again in other surroundings. */
class KeepsEnergiesOfProposals : public Screening {
public:
    using Screening::compute;
    using Screening::Screening;
    void compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms, const Vec3& origin,
                 std::vector<double>& energies) override {
        if (batch.positions != positions)
            energy->compute(loan, batch, numAtoms, origin, kept);
        positions = batch.positions;
        energies = kept;
    }

private:
    std::vector<double> positions, kept;
};

/** The fault: nor is the state's energy computed again there. */
class KeepsEnergyOfState : public Screening {
public:
    using Screening::compute;
    using Screening::Screening;
    double compute(const DeviceLoan& loan, const std::vector<Vec3>& current) override {
        if (current != positions)
            kept = energy->compute(loan, current);
        positions = current;
        return kept;
    }

private:
    std::vector<Vec3> positions;
    double kept = 0;
};

/** The fault: neighbours of proposals are those that were in reach when they were looked up first. */
class KeepsNeighborsOfProposals : public Screening {
public:
    explicit KeepsNeighborsOfProposals(const MakeEnergy& makeLocal)
            : Screening(makeLocal), ofProposals(makeLocal()) {
    }
    bool lookAtSurroundings(const DeviceLoan& loan, const TimewarpPlugin::Target& target) override {
        if (!hasLooked)
            ofProposals->lookAtSurroundings(loan, target);
        hasLooked = true;
        return energy->lookAtSurroundings(loan, target);
    }
    using Screening::compute;
    void compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms, const Vec3& origin,
                 std::vector<double>& energies) override {
        ofProposals->compute(loan, batch, numAtoms, origin, energies);
    }

private:
    std::unique_ptr<BatchEnergy> ofProposals;
    bool hasLooked = false;
};

/** Not exactly a fault: neighbours of the state and of proposals are those of the first time, which makes an
 * energy as good as any other that is one and the same for both, though it rejects too much. */
class LooksOnce : public Screening {
public:
    using Screening::Screening;
    bool lookAtSurroundings(const DeviceLoan& loan, const TimewarpPlugin::Target& target) override {
        const bool isFirst = !hasLooked;
        hasLooked = true;
        return isFirst && energy->lookAtSurroundings(loan, target);
    }

private:
    bool hasLooked = false;
};

/**
 * Check blocks that touch, with a false-alarm rate of 1e-5 for each comparison.
 */
template <class ScreeningEnergy> void checkBlocksThatTouch(int batchSize, Platform& platform) {
    TwoInAWell target;
    auto system = target.createSystem();
    BlockChain<> integrator({{"affine", {0}}, {"affine", {1}}}, batchSize, 5);
    screen<ScreeningEnergy>(integrator);
    integrator.proposalsPerStep = 24;
    Context context(*system, integrator, platform);
    context.setPositions({Vec3(-1, 0, 0), Vec3(1, 0, 0)}); // out of reach
    integrator.step(1);
    checkInvariance(target, context, [&] { integrator.step(1); });
    for (int i : {0, 1}) {
        auto& counters = integrator.getCounters(i);
        ASSERT(counters.numAccepted > 100 && counters.numScreened > 100);
    }
}

void testBlocksThatTouch(Platform& platform) {
    checkBlocksThatTouch<Screening>(16, platform);
    checkBlocksThatTouch<LooksOnce>(16, platform);
    assertThrows([&] { checkBlocksThatTouch<KeepsNeighborsOfProposals>(16, platform); },
                 "distributions differ");
}

/**
 * Two bonded particles in a periodic box under pressure, among others that repel them.
 */
std::unique_ptr<System> createMoleculeUnderPressure(double length) {
    const int numOthers = 30;
    auto system = std::make_unique<System>();
    auto* bond = new HarmonicBondForce();
    bond->addBond(0, 1, 0.0, 500);
    auto* force = new CustomNonbondedForce("height*max(0,1-r/reach)^2");
    Repulsion{8 * KT, 0.3}.setParameters(*force);
    force->setNonbondedMethod(CustomNonbondedForce::CutoffPeriodic);
    force->setCutoffDistance(0.3);
    for (int i = 0; i < 2 + numOthers; i++) {
        system->addParticle(10.0);
        force->addParticle();
    }
    system->addForce(bond);
    system->addForce(force);
    auto* barostat = new MonteCarloBarostat(20000, TEMPERATURE, 1);
    barostat->setRandomNumberSeed(3);
    system->addForce(barostat);
    system->setDefaultPeriodicBoxVectors(Vec3(length, 0, 0), Vec3(0, length, 0), Vec3(0, 0, length));
    return system;
}

/**
 * The local energies of these Systems leave nothing out, so that the second test has nothing to reject, if
 * the first was in the surroundings of the state.
 */
void assertNothingIsLeftToReject(BlockChain<>& integrator, int numBlocks) {
    for (int i = 0; i < numBlocks; i++) {
        auto& counters = integrator.getCounters(i);
        ASSERT(counters.numAccepted > 50 && counters.numScreened > 50);
        if (counters.numSurrogateAccepted > counters.numAccepted)
            throw OpenMMException(std::to_string(counters.numSurrogateAccepted - counters.numAccepted) +
                                  " proposals were screened in other surroundings");
    }
}

template <class ScreeningEnergy> void checkBesideAnotherBlock(int batchSize, Platform& platform) {
    auto system = TwoInAWell().createSystem();
    BlockChain<> integrator({{"affine", {0}}, {"affine", {1}}}, batchSize, 5);
    screen<ScreeningEnergy>(integrator);
    Context context(*system, integrator, platform);
    context.setPositions({Vec3(-0.1, 0, 0), Vec3(0.1, 0, 0)});
    integrator.step(500);
    assertNothingIsLeftToReject(integrator, 2);
}

template <class ScreeningEnergy> void checkBetweenDynamics(Platform& platform) {
    auto system = TwoInAWell().createSystem();
    BlockChain<> integrator({{"affine", {0}}}, 8, 5);
    screen<ScreeningEnergy>(integrator);
    integrator.dynamics = {4, 0.01, 5.0};
    integrator.proposalsPerStep = 4;
    Context context(*system, integrator, platform);
    context.setPositions({Vec3(-0.1, 0, 0), Vec3(0.1, 0, 0)});
    integrator.step(100);
    assertNothingIsLeftToReject(integrator, 1);
}

template <class ScreeningEnergy> void checkUnderPressure(Platform& platform) {
    const double length = 2.0;
    auto system = createMoleculeUnderPressure(length);
    BlockChain<> integrator({{"affine", {0, 1}}}, 8, 5);
    screen<ScreeningEnergy>(integrator);
    Context context(*system, integrator, platform);
    std::vector<Vec3> positions;
    std::mt19937 random(4);
    std::uniform_real_distribution<double> uniform(0, length);
    for (int i = 0; i < system->getNumParticles(); i++)
        positions.emplace_back(uniform(random), uniform(random), uniform(random));
    positions[1] = positions[0] + Vec3(0.1, 0, 0);
    context.setPositions(positions);
    integrator.step(500);
    ASSERT(context.getState(0).getPeriodicBoxVolume() < 0.5 * length * length * length);
    assertNothingIsLeftToReject(integrator, 1);
}

void testSurroundingsAreTheStates(Platform& platform) {
    for (int batchSize : {1, 16})
        checkBesideAnotherBlock<Screening>(batchSize, platform);
    checkBetweenDynamics<Screening>(platform);
    checkUnderPressure<Screening>(platform);
    const std::string found = "in other surroundings";
    assertThrows([&] { checkBesideAnotherBlock<KeepsEnergiesOfProposals>(16, platform); }, found);
    assertThrows([&] { checkBesideAnotherBlock<KeepsEnergyOfState>(1, platform); }, found);
    assertThrows([&] { checkBesideAnotherBlock<LooksOnce>(1, platform); }, found);
    assertThrows([&] { checkBetweenDynamics<KeepsNeighborsOfProposals>(platform); }, found);
    assertThrows([&] { checkUnderPressure<KeepsNeighborsOfProposals>(platform); }, found);
    assertThrows([&] { checkUnderPressure<LooksOnce>(platform); }, found);
}

void runTests(Platform& platform) {
    testSurroundingsAreTheStates(platform);
    testBlocksThatTouch(platform);
}
