/*
 * The chain on a device against the chain on the Reference platform: the same random numbers must give the
 * same decisions, whatever order the device keeps its atoms in.
 */
#include "TimewarpTestAtomOrder.h"
#include "TimewarpTestForce.h"
#include "TimewarpTestTargets.h"
#include <fstream>
#include <unistd.h>

/**
 * What a chain does: whether each iteration accepts, and where it ends.
 */
struct Record {
    std::vector<bool> accepted;
    std::vector<Vec3> positions, velocities;
    double energy;

    double rate() const {
        return std::count(accepted.begin(), accepted.end(), true) / (double)accepted.size();
    }
};

Record record(Context& context, TimewarpMCMCIntegrator& integrator, int steps) {
    Record result;
    for (int i = 0; i < steps; i++) {
        long long before = integrator.getNumAccepted();
        integrator.step(1);
        result.accepted.push_back(integrator.getNumAccepted() > before);
    }
    State state = context.getState(State::Positions | State::Velocities | State::Energy);
    result.positions = state.getPositions();
    result.velocities = state.getVelocities();
    result.energy = state.getPotentialEnergy();
    return result;
}

double largestDifference(const std::vector<Vec3>& a, const std::vector<Vec3>& b) {
    double difference = 0;
    for (size_t i = 0; i < a.size(); i++)
        for (int j = 0; j < 3; j++)
            difference = std::max(difference, std::fabs(a[i][j] - b[i][j]));
    return difference;
}

/**
 * Assert that two chains agree.  In double precision they take the same decisions; otherwise a decision that
 * is close may turn out differently, and the chains part.
 */
void assertAgree(const Record& expected, const Record& found, const std::string& precision,
                 double tolerance) {
    if (precision == "double") {
        ASSERT(expected.accepted == found.accepted);
        ASSERT(largestDifference(expected.positions, found.positions) <= tolerance);
        ASSERT(largestDifference(expected.velocities, found.velocities) == 0);
        return;
    }
    double steps = expected.accepted.size(), p = 0.5 * (expected.rate() + found.rate());
    double error = std::sqrt(2 * p * (1 - p) / steps);
    ASSERT(std::fabs(expected.rate() - found.rate()) <= 4.4 * error);
}

/**
 * Take some steps on both platforms: most where each decision is compared, and not their number.
 */
void checkAgreement(const Target& target, const std::string& model, int batchSize, Platform& platform) {
    Platform& reference = Platform::getPlatformByName("Reference");
    auto system = target.createSystem();
    std::mt19937 random(5);
    std::vector<Vec3> start = target.drawPositions(random);
    std::vector<Record> records;
    for (Platform* p : {&reference, &platform}) {
        TimewarpMCMCIntegrator integrator(modelPath(model, target.numParticles));
        integrator.setBatchSize(batchSize);
        integrator.setRandomNumberSeed(3);
        Context context(*system, integrator, *p);
        context.setPositions(start);
        records.push_back(record(context, integrator, precisionOf(platform) == "double" ? 1000 : 400));
    }
    assertAgree(records[0], records[1], precisionOf(platform), 0.0);
    ASSERT(records[0].rate() > 0.01 && records[0].rate() < 0.99);
}

void testSameDecisions(Platform& platform) {
    checkAgreement(AnharmonicWell(4), "lags", 64, platform);
    checkAgreement(AnharmonicWell(4), "random", 1, platform);
    checkAgreement(CoupledOscillators(4), "affine", 64, platform);
    checkAgreement(DoubleWell(1), "sided", 1, platform);
}

/**
 * Many identical molecules of three atoms in a periodic box, with a cutoff, so that the device sorts them;
 * they start in an order that has nothing to do with where they are, and in other boxes than the first.  The
 * model moves one molecule and one atom of another.
 */
struct Liquid {
    const int perSide = 4, numMolecules = 64;
    const double boxLength = 2.0;
    const std::vector<int> particles = {151, 150, 152, 76};

    std::unique_ptr<System> createSystem() const {
        auto system = std::make_unique<System>();
        system->setDefaultPeriodicBoxVectors(Vec3(boxLength, 0, 0), Vec3(0, boxLength, 0),
                                             Vec3(0, 0, boxLength));
        auto* nonbonded = new NonbondedForce();
        nonbonded->setNonbondedMethod(NonbondedForce::CutoffPeriodic);
        nonbonded->setCutoffDistance(0.9);
        auto* bonds = new HarmonicBondForce();
        std::vector<std::pair<int, int>> pairs;
        for (int i = 0; i < 3 * numMolecules; i++) {
            system->addParticle(10.0);
            nonbonded->addParticle(i % 3 == 0 ? -0.2 : 0.1, 0.2, 0.3);
            if (i % 3 != 0) {
                bonds->addBond(i - i % 3, i, 0.15, 500.0);
                pairs.emplace_back(i - i % 3, i);
            }
        }
        nonbonded->createExceptionsFromBonds(pairs, 0.0, 0.0);
        system->addForce(nonbonded);
        system->addForce(bonds);
        return system;
    }
    std::vector<Vec3> createPositions() const {
        std::vector<int> cells(numMolecules);
        std::iota(cells.begin(), cells.end(), 0);
        std::mt19937 random(3);
        std::shuffle(cells.begin(), cells.end(), random);
        std::uniform_real_distribution<double> noise(-0.03, 0.03);
        std::uniform_int_distribution<int> image(-2, 2);
        std::vector<Vec3> positions;
        for (int cell : cells) {
            Vec3 center(cell % perSide, cell / perSide % perSide, cell / (perSide * perSide));
            center *= boxLength / perSide;
            for (int j = 0; j < 3; j++)
                center[j] += image(random) * boxLength;
            for (const Vec3& offset : {Vec3(), Vec3(0.15, 0, 0), Vec3(0, 0.15, 0)})
                positions.push_back(center + offset + Vec3(noise(random), noise(random), noise(random)));
        }
        return positions;
    }
};

/**
 * The device really sorts its atoms, and keeps molecules in other images than they are in; the chain does not
 * notice.
 */
void testReorderedAtoms(Platform& platform) {
    Liquid liquid;
    std::vector<Vec3> start = liquid.createPositions();
    std::vector<Record> records;
    std::vector<int> order;
    for (Platform* p : {&Platform::getPlatformByName("Reference"), &platform}) {
        auto system = liquid.createSystem();
        auto* watch = new WatchForce();
        watch->update = [&](ContextImpl& context) {
            if (p == &platform) {
                order = atomOrder(context);
                askForReordering(context);
            }
            return false;
        };
        system->addForce(watch);
        TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
        integrator.setParticles(liquid.particles);
        integrator.setFrozenOthers(true);
        integrator.setTemperature(2000.0); // so that proposals are accepted often
        integrator.setRandomNumberSeed(3);
        Context context(*system, integrator, *p);
        context.setPositions(start);
        record(context, integrator, 1);
        if (p == &platform)
            ASSERT(!std::is_sorted(order.begin(), order.end()));
        std::vector<int> firstOrder = order;
        records.push_back(record(context, integrator, 400));

        // What the model does not move stays where it is, to the rounding of moves from one image to another.

        double tolerance = toleranceOn(*p, 1e-12, 3e-6);
        for (size_t i = 0; i < start.size(); i++)
            if (std::find(liquid.particles.begin(), liquid.particles.end(), i) == liquid.particles.end())
                ASSERT_EQUAL_VEC(start[i], records.back().positions[i], tolerance);
        if (p == &platform && order == firstOrder)
            throw OpenMMException("the atoms were not sorted anew in a chain that accepted " +
                                  std::to_string(records.back().rate()));
    }
    ASSERT(records[0].rate() > 0.1 && records[0].rate() < 0.99);
    ASSERT(largestDifference(records[0].positions, start) > 0.1);
    assertAgree(records[0], records[1], precisionOf(platform), 1e-9);

    // The energy is that of the positions as others see them.

    auto system = liquid.createSystem();
    VerletIntegrator unusedIntegrator(0.001);
    Context fresh(*system, unusedIntegrator, Platform::getPlatformByName("Reference"));
    fresh.setPositions(records[1].positions);
    double energy = fresh.getState(State::Energy).getPotentialEnergy();
    ASSERT_EQUAL_TOL(energy, records[1].energy, 1e-4);
}

/**
 * Memory of this process, in bytes.  On a device with memory of its own this is not the device's.
 */
inline double residentMemory() {
    std::ifstream file("/proc/self/statm");
    double total, resident;
    file >> total >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

/**
 * 20,000 iterations, with acceptances and batches of changing size, need no more memory than a few: not even
 * 40 bytes for each.
 */
void testMemoryDoesNotGrow(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
    integrator.setRandomNumberSeed(2);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    integrator.step(5000);
    double before = residentMemory();
    for (int i = 0; i < 20; i++) {
        integrator.setBatchSize(i % 3 == 0 ? 64 : 16);
        integrator.step(1000);
        context.getState(State::Positions | State::Velocities | State::Energy);
    }
    ASSERT_EQUAL(25000, integrator.getNumProposed());
    ASSERT(residentMemory() - before < 40 * 20000);
}

void runTests(Platform& platform) {
    testReorderedAtoms(platform);
    testSameDecisions(platform);
    if (standsForAllPrecisions(platform))
        testMemoryDoesNotGrow(platform);
}
