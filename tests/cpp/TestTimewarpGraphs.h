/*
 * Proposals made by repeating a recording of the model's work: where a GPU does that, and with recorders of
 * the test's own, on the host.
 */
#include "TimewarpTestChain.h"
#include "TimewarpTestTargets.h"
#include <stdexcept>

using TimewarpPlugin::TimewarpGraph;
using TimewarpPlugin::TimewarpGraphRecorder;

/**
 * What a chain does: the number of acceptances after each iteration, and where it ends.
 */
struct Path {
    std::vector<long long> accepted;
    std::vector<Vec3> positions;
};

template <class Chain> Path walk(Context& context, int steps, Chain numAccepted) {
    context.setPositions(std::vector<Vec3>(context.getSystem().getNumParticles()));
    Path path;
    for (int i = 0; i < steps; i++) {
        context.getIntegrator().step(1);
        path.accepted.push_back(numAccepted());
    }
    path.positions = context.getState(State::Positions).getPositions();
    return path;
}

void assertSamePath(const Path& expected, const Path& found) {
    ASSERT(expected.accepted == found.accepted);
    ASSERT(expected.accepted.back() > 10);
    for (size_t i = 0; i < expected.positions.size(); i++)
        ASSERT_EQUAL_VEC(expected.positions[i], found.positions[i], 1e-5);
}

/**
 * The integrator names what it lacks where the model does not run on a CUDA device.
 */
void assertRefused(Platform& platform, const std::string& reason) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    ASSERT(!integrator.getUseCudaGraphs());
    integrator.setUseCudaGraphs(true);
    ASSERT(integrator.getUseCudaGraphs());
    assertThrows([&] { Context context(*system, integrator, platform); }, reason);
    assertThrows([&] { Context context(*system, integrator, platform); }, "setUseCudaGraphs(False)");

    // It can still be used without.

    integrator.setUseCudaGraphs(false);
    Context context(*system, integrator, platform);
    startAtZero(context);
    assertThrows([&] { integrator.setUseCudaGraphs(true); }, "bound to a context");
}

/**
 * Repeats work of the host by doing it again.
 */
class HostRecorder : public TimewarpGraphRecorder {
public:
    HostRecorder(int& numRecorded, int& numReplayed) : numRecorded(numRecorded), numReplayed(numReplayed) {
    }
    std::unique_ptr<TimewarpGraph> record(const std::function<void()>& work) override {
        struct Graph : public TimewarpGraph {
            std::function<void()> work;
            int* numReplayed;
            void replay() override {
                work();
                ++*numReplayed;
            }
        };
        work();
        numRecorded++;
        auto graph = std::make_unique<Graph>();
        graph->work = work;
        graph->numReplayed = &numReplayed;
        return graph;
    }

private:
    int &numRecorded, &numReplayed;
};

/**
 * Records results instead of work, as if the model did not depend on its inputs.
 */
class FrozenRecorder : public TimewarpGraphRecorder {
public:
    std::unique_ptr<TimewarpGraph> record(const std::function<void()>& work) override {
        struct Graph : public TimewarpGraph {
            void replay() override {
            }
        };
        work();
        return std::make_unique<Graph>();
    }
};

class FailingRecorder : public TimewarpGraphRecorder {
public:
    std::unique_ptr<TimewarpGraph> record(const std::function<void()>& work) override {
        throw std::runtime_error("operation not permitted when stream is capturing");
    }
};

/**
 * Recorded work gives the chain that the model itself gives: models whose proposals depend on the state, that
 * draw independently, and that do both, so that some rows of a batch need the way back and some do not.
 */
void testHostGraphs(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    for (const char* name : {"affine", "random", "bounded_draws", "framed", "bounded", "lags"})
        for (int batchSize : {0, 1, 16}) {
            std::vector<Path> paths;
            int numRecorded = 0, numReplayed = 0;
            for (bool graphs : {false, true}) {
                ChainIntegrator<> integrator(modelPath(name, 4), batchSize, 5);
                Context context(*system, integrator, platform);
                if (graphs)
                    integrator.getModel().setGraphRecorder(
                            integrator.lendDevice(),
                            std::make_unique<HostRecorder>(numRecorded, numReplayed));
                paths.push_back(walk(context, 300, [&] { return integrator.getCounters().numAccepted; }));
            }
            assertSamePath(paths[0], paths[1]);

            // One for each of the sizes 1 to 64 and with and without the way back; each is checked twice.

            ASSERT(numRecorded > 0 && numRecorded <= (batchSize == 0 ? 14 : 2));
            ASSERT(numReplayed > 2 * numRecorded);
        }
}

/**
 * A recording that does not read its inputs is found out, though it gives the right results at first.
 */
void testWrongGraphs(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    for (const char* name : {"affine", "framed", "lags"}) {
        ChainIntegrator<> integrator(modelPath(name, 4), 8, 5);
        Context context(*system, integrator, platform);
        context.setPositions(std::vector<Vec3>(4));
        integrator.getModel().setGraphRecorder(integrator.lendDevice(), std::make_unique<FrozenRecorder>());
        assertThrows([&] { integrator.step(1); }, "gives other results than the model itself: y by");
        integrator.getModel().setGraphRecorder(integrator.lendDevice(), std::make_unique<FailingRecorder>());
        assertThrows([&] { integrator.step(1); }, std::string(name) + "_4.pt cannot be recorded");
        assertThrows([&] { integrator.step(1); }, "setUseCudaGraphs(False)");
        assertThrows([&] { integrator.step(1); }, "when stream is capturing");

        // The chain is as it was, and goes on without them.

        ASSERT_EQUAL(0, integrator.getCounters().iteration);
        integrator.getModel().setGraphRecorder(integrator.lendDevice(), nullptr);
        integrator.step(10);
        ASSERT_EQUAL(10, integrator.getCounters().iteration);
    }
}

/**
 * With the same seed, chains with graphs and without take the same decisions.
 */
void testSameDecisionsWithGraphs(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    for (const char* name : {"affine", "random", "tilted", "bounded_draws", "bounded", "lags"})
        for (int batchSize : {0, 1, 64}) {
            std::vector<Path> paths;
            for (bool graphs : {false, true}) {
                TimewarpMCMCIntegrator integrator(modelPath(name, 4));
                integrator.setUseCudaGraphs(graphs);
                integrator.setBatchSize(batchSize);
                integrator.setRandomNumberSeed(5);
                Context context(*system, integrator, platform);
                paths.push_back(walk(context, 1000, [&] { return integrator.getNumAccepted(); }));
            }
            assertSamePath(paths[0], paths[1]);
        }
}

/**
 * Get whether the model runs on a GPU in Contexts of a platform, which needs a torch that can use one.
 */
bool runsModelOnGpu(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    Context context(*system, integrator, platform);
    return integrator.getModelDevice() != "cpu";
}

void runTests(Platform& platform) {
    if (platform.getName() != "CUDA") {
        if (!standsForAllPrecisions(platform))
            return;
        assertRefused(platform, "platform is not CUDA");
        testHostGraphs(platform);
        testWrongGraphs(platform);
    }
    else if (runsModelOnGpu(platform))
        testSameDecisionsWithGraphs(platform);
    else
        assertRefused(platform, "torch is a build without CUDA");
}
