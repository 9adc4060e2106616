/*
 * XML of the integrator: settings, and the model by reference or embedded.
 */
#include "Base64.h"
#include "Sha256.h"
#include "TimewarpTestTargets.h"
#include "openmm/serialization/XmlSerializer.h"
#include <cstdio>
#include <fstream>
#include <sstream>

using TimewarpPlugin::decodeBase64;
using TimewarpPlugin::encodeBase64;
using TimewarpPlugin::sha256;

void writeFile(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
}

std::string toXml(const TimewarpMCMCIntegrator& integrator) {
    std::stringstream stream;
    XmlSerializer::serialize<Integrator>(&integrator, "Integrator", stream);
    return stream.str();
}

std::unique_ptr<TimewarpMCMCIntegrator> fromXml(const std::string& xml) {
    std::stringstream stream(xml);
    return std::unique_ptr<TimewarpMCMCIntegrator>(
            dynamic_cast<TimewarpMCMCIntegrator*>(XmlSerializer::deserialize<Integrator>(stream)));
}

/**
 * Digests that FIPS 180-4's examples state, and texts of RFC 4648; Python's test compares with hashlib.
 */
void testDigestsAndBase64() {
    ASSERT_EQUAL(std::string("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), sha256(""));
    ASSERT_EQUAL(std::string("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
                 sha256("abc"));
    ASSERT_EQUAL(std::string("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
                 sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"));
    ASSERT_EQUAL(std::string("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
                 sha256(std::string(1000000, 'a')));
    ASSERT_EQUAL(std::string("Zm9vYmFy"), encodeBase64("foobar"));
    ASSERT_EQUAL(std::string("Zm9vYg=="), encodeBase64("foob"));
    std::mt19937 random(1);
    for (int size = 0; size < 200; size++) {
        std::string bytes;
        for (int i = 0; i < size; i++)
            bytes += static_cast<char>(random());
        ASSERT(decodeBase64(encodeBase64(bytes)) == bytes);
    }
    assertThrows([] { decodeBase64("Zm9vYg="); }, "truncated");
    assertThrows([] { decodeBase64("Zm9*Yg=="); }, "does not belong");
}

void testSettingsAreSerialized() {
    TimewarpMCMCIntegrator integrator(modelPath("lags", 4));
    ASSERT_EQUAL(300.0, integrator.getTemperature());
    ASSERT_EQUAL_TOL(2.0, integrator.getStepSize(), 1e-12);
    integrator.setTemperature(311.5);
    integrator.setStepSize(0.5);
    integrator.setBatchSize(9);
    integrator.setRandomNumberSeed(42);
    integrator.setParticles({3, 1, 0, 2});
    integrator.setIntegrationForceGroups(5);
    integrator.setLagWeights({0.1, 0.7, 0.3});
    integrator.setSurrogate(surrogateContent("poor"));
    integrator.setSubchainLength(12);
    integrator.setBlocksPerTry(5);
    integrator.setUseCudaGraphs(true);
    for (bool embed : {false, true}) {
        integrator.setEmbedModel(embed);
        auto copy = fromXml(toXml(integrator));
        ASSERT_EQUAL(integrator.getModelPath(), copy->getModelPath());
        ASSERT_EQUAL(integrator.getModelSha256(), copy->getModelSha256());
        ASSERT_EQUAL(embed, copy->getEmbedModel());
        ASSERT_EQUAL(integrator.getTemperature(), copy->getTemperature());
        ASSERT_EQUAL(integrator.getStepSize(), copy->getStepSize());
        ASSERT_EQUAL(integrator.getBatchSize(), copy->getBatchSize());
        ASSERT_EQUAL(integrator.getRandomNumberSeed(), copy->getRandomNumberSeed());
        ASSERT_EQUAL(integrator.getIntegrationForceGroups(), copy->getIntegrationForceGroups());
        ASSERT(copy->getUseCudaGraphs());
        ASSERT(integrator.getParticles() == copy->getParticles());
        ASSERT(integrator.getLagWeights() == copy->getLagWeights());
        ASSERT(integrator.getSurrogate() == copy->getSurrogate());
        ASSERT_EQUAL(integrator.getSubchainLength(), copy->getSubchainLength());
        ASSERT_EQUAL(5, copy->getBlocksPerTry());
    }
}

/**
 * The file under the model's path is another one, or gone.
 */
void testChangedModel() {
    std::string path = modelPath("changing", 4), content = readFile(modelPath("affine", 4));
    writeFile(path, content);
    TimewarpMCMCIntegrator integrator(path);
    ASSERT_EQUAL(sha256(content), integrator.getModelSha256());
    std::string reference = toXml(integrator);
    integrator.setEmbedModel(true);
    std::string embedded = toXml(integrator);
    ASSERT(reference.size() < 2000 && embedded.size() > content.size());
    fromXml(reference);
    writeFile(path, readFile(modelPath("tilted", 4)));
    assertThrows([&] { fromXml(reference); }, "has changed since the integrator was serialized");
    ASSERT(fromXml(embedded)->getModelContent() == content);

    // An integrator keeps the model it was created with.

    ASSERT(toXml(integrator) == embedded);
    std::remove(path.c_str());
    assertThrows([&] { fromXml(reference); }, "cannot open the model file");
    ASSERT(fromXml(embedded)->getModelContent() == content);
    std::string damaged = embedded;
    size_t place = damaged.find(" content=\"") + 2000;
    damaged[place] = (damaged[place] == 'A' ? 'B' : 'A');
    assertThrows([&] { fromXml(damaged); }, "is damaged");
}

/**
 * A copy with an embedded model runs the same chain.
 */
void testEmbeddedModelRuns(Platform& platform) {
    AnharmonicWell well(4);
    auto system = well.createSystem();
    TimewarpMCMCIntegrator integrator(modelPath("tilted", 4));
    integrator.setEmbedModel(true);
    integrator.setRandomNumberSeed(3);
    auto copy = fromXml(toXml(integrator));
    Context context(*system, integrator, platform), context2(*system, *copy, platform);
    for (Context* c : {&context, &context2}) {
        c->setPositions(std::vector<Vec3>(4));
        c->getIntegrator().step(100);
    }
    ASSERT(integrator.getNumAccepted() > 0);
    ASSERT(context.getState(State::Positions).getPositions() ==
           context2.getState(State::Positions).getPositions());
}

void runTests(Platform& platform) {
    // What needs no Context is tested once, not on each platform.

    if (platform.getName() == "Reference") {
        testDigestsAndBase64();
        testSettingsAreSerialized();
        testChangedModel();
    }
    testEmbeddedModelRuns(platform);
}
