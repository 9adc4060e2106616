/*
 * Checkpoints and States: resumption bit for bit, and what cannot be resumed from is refused.
 */
#include "Move.h"
#include "TimewarpTestTargets.h"
#include "openmm/serialization/XmlSerializer.h"
#include <limits>
#include <set>
#include <sstream>

/**
 * A System with an integrator in a Context of its own, each with another seed that its Context has picked, so
 * that one can only follow another by what it has loaded.
 */
struct Run {
    std::unique_ptr<System> system;
    TimewarpMCMCIntegrator integrator;
    Context context;

    Run(const std::string& model, int batchSize, Platform& platform, const std::vector<int>& particles = {})
            : system(createSystemFor(AnharmonicWell(4), model)), integrator(modelPath(model, 4)),
              context(*system, (integrator.setParticles(particles), integrator), platform) {
        integrator.setBatchSize(batchSize);
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
 * steps and many, so that prefetching is in all its stages.
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
            otherParticles("lags", 64, platform, {0, 2, 1, 3});
    for (Run* r : {&run, &otherModel, &otherParticles}) {
        r->context.setPositions(std::vector<Vec3>(4));
        r->integrator.step(20);
    }
    assertThrows([&] { run.load(otherModel.checkpoint()); }, "another model");
    checkStillUsable(run);
    assertThrows([&] { run.load(otherParticles.checkpoint()); }, "moves other particles");
    checkStillUsable(run);
    int types = State::Positions | State::IntegratorParameters;
    assertThrows([&] { run.context.setState(otherModel.context.getState(types)); }, "another model");
    assertThrows([&] { run.context.setState(otherParticles.context.getState(types)); },
                 "moves other particles");
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
                                                          {"prefetchSize=\"", "prefetchSize=\"99999999"},
                                                          {"value=\"", "value=\"-"}}) {
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

/**
 * All counters are in a checkpoint.
 */
void testCountersAreListed(Platform& platform) {
    TimewarpPlugin::MoveCounters counters;
    size_t size = 0;
    std::set<std::string> names;
    TimewarpPlugin::visitCounters(counters, [&](const char* name, const auto& value) {
        size += sizeof(value);
        names.insert(name);
    });
    ASSERT_EQUAL(sizeof(counters), size);
    ASSERT_EQUAL(size / 8, names.size());
}

/**
 * Get how many prefetched proposals there are, as a saved State says.
 */
std::string numPrefetched(Context& context) {
    State state = context.getState(State::IntegratorParameters);
    std::stringstream stream;
    XmlSerializer::serialize(&state, "State", stream);
    const std::string xml = stream.str(), name = "prefetchSize=\"";
    size_t place = xml.find(name) + name.size();
    return xml.substr(place, xml.find('"', place) - place);
}

/**
 * Wells in a box, or without one, with a mass of the first particle.
 */
std::unique_ptr<System> createWells(bool periodic, double mass = 10.0) {
    auto system = std::make_unique<System>();
    system->setDefaultPeriodicBoxVectors(Vec3(2, 0, 0), Vec3(0, 2, 0), Vec3(0, 0, 2));
    auto* force =
            new CustomExternalForce(periodic ? "40*periodicdistance(x,y,z,0,0,0)^2" : "40*(x^2+y^2+z^2)");
    for (int i = 0; i < 4; i++) {
        system->addParticle(i == 0 ? mass : 10.0);
        force->addParticle(i);
    }
    system->addForce(force);
    return system;
}

/**
 * A run goes on in another System, as one of a dynamical integrator does: with other masses, in a box, with a
 * barostat.  What was prefetched for the old one is forgotten, and the counters stay.
 */
void testAnotherSystem(Platform& platform) {
    const int types = State::Positions | State::Velocities | State::Parameters | State::IntegratorParameters;
    for (bool periodic : {false, true})
        for (const std::string change : {"mass", "periodicity", "barostat"}) {
            if (change == "barostat" && !periodic)
                continue;
            auto before = createWells(periodic);
            auto after = createWells(change == "periodicity" ? !periodic : periodic,
                                     change == "mass" ? 12.0 : 10.0);
            if (change == "barostat")
                after->addForce(new MonteCarloBarostat(1.0, TEMPERATURE, 1000));
            TimewarpMCMCIntegrator first(modelPath("affine", 4)), second(modelPath("affine", 4));
            first.setBatchSize(64);
            second.setBatchSize(64);
            Context context1(*before, first, platform), context2(*after, second, platform);
            context1.setPositions(std::vector<Vec3>(4, Vec3(0.1, 0, 0)));
            do
                first.step(1);
            while (first.getNumProposed() < 30 || numPrefetched(context1) == "0");
            State state = context1.getState(types);
            context2.setState(state);
            const long long numProposed = first.getNumProposed();
            ASSERT_EQUAL(numProposed, second.getNumProposed());
            ASSERT_EQUAL(first.getNumAccepted(), second.getNumAccepted());
            ASSERT_EQUAL("0", numPrefetched(context2));
            ASSERT(state.getPositions() == context2.getState(types).getPositions());
            second.step(30);
            ASSERT_EQUAL(numProposed + 30, second.getNumProposed());
        }
}

/**
 * The System of a Context is edited, and the state preserved.
 */
void testReinitializeAfterAnEdit(Platform& platform) {
    auto system = createWells(true);
    TimewarpMCMCIntegrator integrator(modelPath("affine", 4));
    Context context(*system, integrator, platform);
    context.setPositions(std::vector<Vec3>(4, Vec3(0.1, 0, 0)));
    for (int steps : {0, 30}) {
        integrator.step(steps);
        auto before = context.getState(State::Positions).getPositions();
        system->setParticleMass(0, system->getParticleMass(0) + 1);
        system->addForce(new MonteCarloBarostat(1.0, TEMPERATURE, 1000));
        context.reinitialize(true);
        ASSERT(before == context.getState(State::Positions).getPositions());
        ASSERT_EQUAL(steps, integrator.getNumProposed());
        integrator.step(10);
        ASSERT_EQUAL(steps + 10, integrator.getNumProposed());
        system->removeForce(1);
        context.reinitialize();
        context.setPositions(std::vector<Vec3>(4, Vec3(0.1, 0, 0)));
    }
}

void runTests(Platform& platform) {
    testResume(platform);
    testStateWithoutPositions(platform);
    testReinitializeAfterAnEdit(platform);
    if (!standsForAllPrecisions(platform))
        return;
    testCountersAreListed(platform);
    testAnotherSystem(platform);
    testDamagedCheckpoints(platform);
    testForeignCheckpoints(platform);
    testImpossibleState(platform);
}
