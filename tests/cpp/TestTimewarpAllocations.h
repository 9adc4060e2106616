/*
 * Memory that a step allocates.  Counted is what this project's libraries and the test itself ask operator
 * new for, in the thread that steps (see AllocationCounter).  Not counted is what libtorch allocates to run
 * the model, which it does once per prefetched batch, and what OpenMM allocates to compute energies.
 */
#include "AllocationCounter.h"
#include "Base64.h"
#include "TimewarpTestBlocks.h"
#include <malloc.h>

const int BATCH = 64;
// TorchScript takes over the list of arguments of each call; a prefetched batch is one of sample and one of
// log_prob.
const int LISTS_PER_PREFETCH = 2;

/**
 * A move with a planted fault: it allocates for each acceptance ratio.
 */
class WastefulMove : public FlowMove {
public:
    using FlowMove::FlowMove;
    int numRatios = 0;

protected:
    double logAcceptance(TimewarpPlugin::Target& target, std::int64_t entry, double energyChange) override {
        numRatios++;
        std::vector<double> waste(3, energyChange);
        return FlowMove::logAcceptance(target, entry, waste[entry % 3]);
    }
};

std::string libraryOf(const Platform& platform) {
    bool isReference = (platform.getName() == "Reference" || platform.getName() == "CPU");
    return "libTimewarpOpenMM" + (isReference ? "Reference" : platform.getName()) + ".so";
}

/**
 * Count the allocations of 30 steps, and acceptance ratios.
 */
template <class Flow> long countInSteps(Platform& platform, std::function<void(Flow&)> look) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    ChainIntegrator<Flow> integrator(modelPath("affine", 4), BATCH, 3);
    Context context(*system, integrator, platform);
    startAtZero(context);
    look(integrator.getMove());
    AllocationCounter counter;
    integrator.step(30);
    look(integrator.getMove());
    return counter.get();
}

/**
 * The counter sees what is allocated in the chain, in our libraries, and through the C++ library.
 */
void testAllocationsAreCounted(Platform& platform) {
    int before = 0, after = 0;
    long found = countInSteps<WastefulMove>(platform, [&](WastefulMove& move) {
        before = after;
        after = move.numRatios;
    });
    long expected = countInSteps<FlowMove>(platform, [](FlowMove&) {});
    ASSERT(after - before > 20);
    ASSERT_EQUAL(expected + after - before, found);

    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    const std::vector<int> particles(100);
    const std::string bytes(100, 'a');
    {
        AllocationCounter counter;
        integrator.setParticles(particles);
        ASSERT_EQUAL(1, counter.get());
    }
    {
        AllocationCounter counter;
        TimewarpPlugin::encodeBase64(bytes);
        ASSERT(counter.get() > 0);
    }
    AllocationCounter counter;
    std::string text = bytes + "b";
    ASSERT(counter.get() > 0);
}

/**
 * Allocations of the steps that are left in the current batch, half of them in calls of one step each.
 */
long countInBatch(TimewarpMCMCIntegrator& integrator) {
    integrator.step(BATCH - integrator.getNumProposed() % BATCH + 1);
    AllocationCounter counter;
    integrator.step(31);
    for (int i = 0; i < 32; i++)
        integrator.step(1);
    return counter.get();
}

/**
 * In steps for which proposals have been computed already nothing is allocated, where they reject ...
 */
void testRejectionsDoNotAllocate(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    for (const char* name : {"affine", "lags"}) {
        TimewarpMCMCIntegrator integrator(modelPath(name, 4));
        integrator.setBatchSize(BATCH);
        integrator.setTemperature(1e-6); // nothing leaves the lowest energy
        integrator.setRandomNumberSeed(5);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        ASSERT_EQUAL(0, countInBatch(integrator));
        ASSERT_EQUAL(0, integrator.getNumAccepted());
    }
}

/**
 * ... and where they accept independent draws.
 */
void testAcceptancesDoNotAllocate(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
    integrator.setLagWeights({0.0, 0.0, 1.0});
    integrator.setTemperature(3000.0); // where the draws are about as wide as the target
    integrator.setBatchSize(BATCH);
    integrator.setRandomNumberSeed(5);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    integrator.step(3 * BATCH);
    long long before = integrator.getNumAccepted();
    ASSERT_EQUAL(0, countInBatch(integrator));
    ASSERT(integrator.getNumAccepted() > before + 3);
}

/**
 * A move that counts how often it prefetches.
 */
class PrefetchCountingMove : public FlowMove {
public:
    using FlowMove::FlowMove;
    int numPrefetches = 0;

protected:
    void draw(TimewarpPlugin::Target& target, std::int64_t start, const ProposalInputs& inputs,
              Draws& draws) override {
        numPrefetches++;
        FlowMove::draw(target, start, inputs, draws);
    }
};

/**
 * From one prefetched batch to the next all memory is used again: nothing is allocated but the lists of
 * arguments of the model's calls, which are those two and, where there are independent draws, the density of
 * each new state.
 */
void testPrefetchingReusesMemory(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    for (const char* name : {"affine", "random", "lags", "framed"}) {
        ChainIntegrator<PrefetchCountingMove> integrator(modelPath(name, 4), BATCH, 5);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        integrator.step(1000);
        PrefetchCountingMove& move = integrator.getMove();
        int prefetches = move.numPrefetches;
        long long accepted = move.getCounters().numAccepted;
        AllocationCounter counter;
        for (int i = 0; i < 100; i++)
            integrator.step(10);
        long found = counter.get();
        prefetches = move.numPrefetches - prefetches;
        accepted = move.getCounters().numAccepted - accepted;
        ASSERT(prefetches >= 1000 / BATCH && accepted > 10);
        bool drawsIndependently = !integrator.getModel().getMetadata().auxiliaryVelocities;
        ASSERT(found <= LISTS_PER_PREFETCH * prefetches + (drawsIndependently ? accepted : 0));
    }
}

/**
 * Two blocks whose proposals are screened: nothing is allocated but for a new batch of one of them.
 */
void testScreeningDoesNotAllocate(Platform& platform) {
    CoupledOscillators target(4);
    auto system = target.createSystem();
    TimewarpMCMCIntegrator integrator(1e-6); // nothing leaves the lowest energy
    addBlocks(integrator, {{"affine", {0, 1}}, {"affine", {2, 3}}});
    integrator.setBatchSize(BATCH);
    integrator.setRandomNumberSeed(5);
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    long found = 0, ofBatches = 0;
    for (int i = 0; i < 4 * BATCH; i++) {
        const long long before[2] = {integrator.getBlockNumTried(0), integrator.getBlockNumTried(1)};
        AllocationCounter counter;
        integrator.step(1);
        const int block = (integrator.getBlockNumTried(1) > before[1]);
        (before[block] % BATCH == 0 ? ofBatches : found) += counter.get();
    }
    ASSERT_EQUAL(4 * BATCH, integrator.getBlockNumScreened(0) + integrator.getBlockNumScreened(1));
    ASSERT_EQUAL(0, found);
    ASSERT(ofBatches > 0);
}

/**
 * A move with a planted fault: it never gives its memory back.
 */
class LeakingMove : public FlowMove {
public:
    using FlowMove::FlowMove;

protected:
    double logAcceptance(TimewarpPlugin::Target& target, std::int64_t entry, double energyChange) override {
        leaked.push_back(std::make_unique<double>(energyChange));
        return FlowMove::logAcceptance(target, entry, *leaked.back());
    }

private:
    std::vector<std::unique_ptr<double>> leaked;
};

size_t memoryInUse() {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/**
 * However many steps are done, memory does not grow.
 */
void checkMemoryStaysFlat(System& system, Integrator& integrator, Platform& platform, int steps) {
    Context context(system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4));
    integrator.step(500);
    const size_t before = memoryInUse();
    integrator.step(steps);
    const size_t after = memoryInUse();
    if (after > before + 10000)
        throw OpenMMException("memory has grown by " + std::to_string(after - before) + " bytes");
}

void testMemoryStaysFlat(Platform& platform) {
    // What a driver's threads allocate is not to be told from what is ours.

    if (platform.getName() != "Reference")
        return;
    CoupledOscillators target(4);
    auto system = target.createSystem();
    const std::vector<TestBlock> blocks = {{"affine", {0, 1}}, {"affine", {2, 3}}};
    TimewarpMCMCIntegrator integrator(TEMPERATURE);
    addBlocks(integrator, blocks);
    integrator.setRandomNumberSeed(5);
    integrator.setDynamics(1, 0.002, 1.0);
    integrator.setProposalsPerStep(1);
    checkMemoryStaysFlat(*system, integrator, platform, 10000);
    ASSERT(integrator.getNumAccepted() > 1000);
#ifndef __SANITIZE_ADDRESS__
    // The sanitizer's own allocator does not fill in mallinfo().  It sees leaks by itself.

    BlockChain<LeakingMove> leaking(blocks, 16, 5);
    assertThrows([&] { checkMemoryStaysFlat(*system, leaking, platform, 1000); }, "memory has grown");
#endif
}

void runTests(Platform& platform) {
    AllocationCounter::findLibraries({"libTimewarpOpenMM.so", libraryOf(platform)});
    testRejectionsDoNotAllocate(platform);
    testAcceptancesDoNotAllocate(platform);
    if (!standsForAllPrecisions(platform))
        return;
    // How the counter finds out who called the C++ library depends on that library.
    if (!isDevice(platform))
        testAllocationsAreCounted(platform);
    testPrefetchingReusesMemory(platform);
    testScreeningDoesNotAllocate(platform);
    testMemoryStaysFlat(platform);
}
