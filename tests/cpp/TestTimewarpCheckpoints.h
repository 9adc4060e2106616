/*
 * Checkpoints and States: resumption bit for bit, and what cannot be resumed from is refused.
 */
#include "TimewarpTestTargets.h"
#include "openmm/serialization/XmlSerializer.h"
#include <limits>
#include <sstream>

/**
 * A System with an integrator in a Context of its own.
 */
struct Run {
    inline static int nextSeed = 1;
    std::unique_ptr<System> system;
    TimewarpMCMCIntegrator integrator;
    Context context;

    /**
     * Every Run has a seed of its own, so that one can only follow another by what it has loaded.
     */
    Run(const std::string& model, int batchSize, Platform& platform, double mass = 10.0)
            : system(AnharmonicWell(4).createSystem()), integrator(modelPath(model, 4)),
              context((system->setParticleMass(0, mass), *system), integrator, platform) {
        integrator.setBatchSize(batchSize);
        integrator.setRandomNumberSeed(nextSeed++);
    }
    std::vector<Vec3> positions() const {
        return context.getState(State::Positions).getPositions();
    }
    std::string checkpoint() {
        std::stringstream stream;
        context.createCheckpoint(stream);
        return stream.str();
    }
    void load(const std::string& checkpoint) {
        std::stringstream stream(checkpoint);
        context.loadCheckpoint(stream);
    }
};

/**
 * In the same Context and in another, from a checkpoint and from a State that went through XML; after few
 * steps and many, so that look-ahead is in all its stages.
 */
void testResume(Platform& platform) {
    for (const char* model : {"tilted", "lags", "framed"}) {
        // One proposal in forty of the tilted model is accepted, so one run of it alone could see none.

        long long totalAccepted = 0;
        for (int batchSize : {0, 1, 64}) {
            Run run(model, batchSize, platform), other(model, batchSize, platform),
                    third(model, batchSize, platform);
            std::mt19937 random(4);
            run.context.setPositions(AnharmonicWell(4).drawPositions(random));
            for (int steps : {1, 6, 30}) {
                run.integrator.step(steps);
                std::string checkpoint = run.checkpoint();
                State saved = run.context.getState(State::Positions | State::Velocities | State::Parameters |
                                                   State::IntegratorParameters);
                std::unique_ptr<State> read(XmlSerializer::clone<State>(saved));
                run.integrator.step(70);
                auto expected = run.positions();
                long long accepted = run.integrator.getNumAccepted();
                other.load(checkpoint);
                other.integrator.step(70);
                ASSERT(expected == other.positions());
                third.context.setState(*read);
                third.integrator.step(70);
                ASSERT(expected == third.positions());
                run.load(checkpoint);
                run.integrator.step(70);
                ASSERT(expected == run.positions());
                for (Run* r : {&run, &other, &third})
                    ASSERT_EQUAL(accepted, r->integrator.getNumAccepted());
            }
            totalAccepted += run.integrator.getNumAccepted();
        }
        ASSERT(totalAccepted > 5);
    }
}

/**
 * A State may hold the integrator's parameters without the positions they belong to. Then what is known of
 * those positions must not be used for others.
 */
void testStateWithoutPositions(Platform& platform) {
    std::mt19937 random(5);
    std::vector<Vec3> start = AnharmonicWell(4).drawPositions(random);
    for (const char* model : {"tilted", "lags", "framed"}) {
        Run run(model, 64, platform), before(model, 64, platform), after(model, 64, platform);
        run.context.setPositions(std::vector<Vec3>(4));
        run.integrator.step(25);
        State saved = run.context.getState(State::IntegratorParameters);
        before.context.setState(saved);
        before.context.setPositions(start);
        after.context.setPositions(start);
        after.context.setState(saved);
        before.integrator.step(60);
        after.integrator.step(60);
        ASSERT(before.positions() == after.positions());
        ASSERT_EQUAL(before.integrator.getNumAccepted(), after.integrator.getNumAccepted());
    }
}

/**
 * After a refusal the Context can be used again as soon as it has positions.
 */
void checkStillUsable(Run& run) {
    run.context.setPositions(std::vector<Vec3>(4));
    run.context.setVelocities(std::vector<Vec3>(4));
    long long before = run.integrator.getNumProposed();
    run.integrator.step(20);
    ASSERT_EQUAL(before + 20, run.integrator.getNumProposed());
    ASSERT(std::isfinite(run.context.getState(State::Energy).getPotentialEnergy()));
}

void testDamagedCheckpoints(Platform& platform) {
    Run run("lags", 64, platform);
    run.context.setPositions(std::vector<Vec3>(4));
    run.integrator.step(20);
    std::string whole = run.checkpoint();
    size_t own = whole.find("TWMCMC");
    ASSERT(own != std::string::npos);
    for (size_t size = own; size < whole.size(); size += 13) {
        assertThrows([&] { run.load(whole.substr(0, size)); }, "checkpoint is truncated");
        if (size % 10 == 0)
            checkStillUsable(run);
    }
    for (size_t position = own; position < whole.size(); position += 13) {
        std::string damaged = whole;
        damaged[position] ^= 0x21;
        assertThrows([&] { run.load(damaged); }, "the checkpoint");
    }
    checkStillUsable(run);
    std::string garbage = whole.substr(0, own);
    std::mt19937 random(1);
    for (size_t i = own; i < whole.size(); i++)
        garbage += static_cast<char>(random());
    assertThrows([&] { run.load(garbage); }, "not made with a TimewarpMCMCIntegrator");
    checkStillUsable(run);
    run.load(whole);
    checkStillUsable(run);
}

void testForeignCheckpoints(Platform& platform) {
    Run run("lags", 64, platform), otherModel("tilted", 64, platform),
            otherSystem("lags", 64, platform, 12.0);
    for (Run* r : {&run, &otherModel, &otherSystem}) {
        r->context.setPositions(std::vector<Vec3>(4));
        r->integrator.step(20);
    }
    assertThrows([&] { run.load(otherModel.checkpoint()); }, "another model");
    checkStillUsable(run);
    assertThrows([&] { run.load(otherSystem.checkpoint()); }, "another System");
    checkStillUsable(run);
    int types = State::Positions | State::IntegratorParameters;
    assertThrows([&] { run.context.setState(otherModel.context.getState(types)); }, "another model");
    assertThrows([&] { run.context.setState(otherSystem.context.getState(types)); }, "another System");
    checkStillUsable(run);

    // The checkpoint of another integrator has nothing of ours in it.

    LangevinMiddleIntegrator langevin(TEMPERATURE, 1.0, 0.001);
    Context context(*run.system, langevin, platform);
    context.setPositions(std::vector<Vec3>(4));
    std::stringstream stream;
    context.createCheckpoint(stream);
    assertThrows([&] { run.context.loadCheckpoint(stream); }, "the checkpoint");
    checkStillUsable(run);
}

/**
 * Numbers in a State that cannot be are refused, not used.
 */
void testImpossibleState(Platform& platform) {
    Run run("lags", 64, platform);
    run.context.setPositions(std::vector<Vec3>(4));
    run.integrator.step(20);
    State saved = run.context.getState(State::Positions | State::IntegratorParameters);
    std::stringstream stream;
    XmlSerializer::serialize(&saved, "State", stream);
    for (auto& change :
         std::vector<std::pair<std::string, std::string>>{{"iteration=\"20\"", "iteration=\"-5\""},
                                                          {"numAccepted=\"", "numAccepted=\"9999"},
                                                          {"lookAheadSize=\"", "lookAheadSize=\"99999999"},
                                                          {"weight=\"", "weight=\"-"}}) {
        std::string xml = stream.str();
        size_t place = xml.find(change.first);
        ASSERT(place != std::string::npos);
        xml.replace(place, change.first.size(), change.second);
        std::stringstream changed(xml);
        std::unique_ptr<State> state(XmlSerializer::deserialize<State>(changed));
        assertThrows([&] { run.context.setState(*state); }, "impossible numbers");
    }
    checkStillUsable(run);
}

void runTests(Platform& platform) {
    testResume(platform);
    testStateWithoutPositions(platform);
    testDamagedCheckpoints(platform);
    testForeignCheckpoints(platform);
    testImpossibleState(platform);
}
