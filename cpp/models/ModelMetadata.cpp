#include "ModelMetadata.h"
#include "PrintableText.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using nlohmann::json;

// Force fields disagree on atomic weights by less than this (dalton); a repartitioned hydrogen by far more.
static const double MASS_TOLERANCE = 0.05;

// Bounds that keep a damaged file from asking for all memory; read_metadata() of the Python package has the
// same.
static const size_t MAX_TEXT = 16 << 20;
static const int MAX_NESTING = 50;
static const int64_t MAX_ATOMS = 100000, MAX_NOISE_SIZE = 1000000, MAX_LAG_TIMES = 1000;

[[noreturn]] static void fail(const string& what) {
    throw OpenMMException(what);
}

/**
 * Parse a text whose objects have no two entries of one name, of which readers may take different ones.
 */
static json parseJson(const string& text) {
    if (text.size() > MAX_TEXT)
        fail("they are too long");
    vector<set<string>> names;
    json content = json::parse(text, [&](int depth, json::parse_event_t event, json& value) {
        if (depth > MAX_NESTING)
            fail("they are nested too deeply");
        if (event == json::parse_event_t::object_start)
            names.emplace_back();
        else if (event == json::parse_event_t::object_end)
            names.pop_back();
        else if (event == json::parse_event_t::key && !names.back().insert(value.get<string>()).second)
            fail("the entry " + value.get<string>() + " stands twice");
        return true;
    });
    if (!content.is_object())
        fail("they are not a JSON object");
    return content;
}

/**
 * The entries of an object, each of which is checked for its type when it is asked for.
 */
class Entries {
public:
    Entries(const json& content, const string& path, const set<string>& required, const set<string>& optional)
            : content(content), path(path) {
        if (!content.is_object())
            fail(path + " must be an object");
        for (const string& name : required)
            if (!content.contains(name))
                fail("the entry " + path + name + " is missing");
        for (auto& [name, value] : content.items())
            if (!required.count(name) && !optional.count(name))
                fail("the entry " + path + name + " is not known");
    }

    bool has(const string& name) const {
        return content.contains(name) && !content.at(name).is_null();
    }

    const json& get(const string& name) const {
        return content.at(name);
    }

    const json& list(const string& name, size_t largest) const {
        const json& value = content.at(name);
        if (!value.is_array() || value.size() > largest)
            fail(path + name + " must be a list of at most " + to_string(largest) + " entries");
        return value;
    }

    int64_t integer(const json& value, const string& name, int64_t largest) const {
        if (!value.is_number_integer() ||
            (value.is_number_unsigned() && value.get<uint64_t>() > (uint64_t)largest) ||
            value.get<int64_t>() < 0 || value.get<int64_t>() > largest)
            fail(path + name + " must be an integer from 0 to " + to_string(largest));
        return value.get<int64_t>();
    }

    double real(const json& value, const string& name) const {
        if (!value.is_number() || !isfinite(value.get<double>()))
            fail(path + name + " must be a finite number");
        return value.get<double>();
    }

    string text(const json& value, const string& name) const {
        if (!value.is_string())
            fail(path + name + " must be a text");
        return value.get<string>();
    }

    bool flag(const string& name, bool otherwise) const {
        if (!content.contains(name))
            return otherwise;
        if (!content.at(name).is_boolean())
            fail(path + name + " must be true or false");
        return content.at(name).get<bool>();
    }

private:
    const json& content;
    const string path;
};

static void parseMolecule(const json& content, ModelMetadata& metadata) {
    // What the structure file called its residues is missing in models of earlier versions.
    const set<string> labels{"residue_ids", "insertion_codes", "chain_ids"};
    Entries entries(content, "molecule.",
                    {"atom_names", "residue_names", "residue_indices", "elements", "masses", "bonds"},
                    labels);
    metadata.anyMolecule = false;
    for (const json& mass : entries.list("masses", MAX_ATOMS)) {
        metadata.masses.push_back(entries.real(mass, "masses"));
        if (!(metadata.masses.back() > 0))
            fail("a mass is not positive");
    }
    size_t numAtoms = metadata.masses.size();
    for (const char* name : {"atom_names", "residue_names", "elements"})
        for (const json& text : entries.list(name, MAX_ATOMS))
            entries.text(text, name);
    for (const json& index : entries.list("residue_indices", MAX_ATOMS))
        entries.integer(index, "residue_indices", MAX_ATOMS);
    for (const char* name : {"atom_names", "residue_names", "elements", "residue_indices"})
        if (entries.get(name).size() != numAtoms || numAtoms == 0)
            fail(string("molecule.") + name + " and molecule.masses must be of one length, at least 1");
    for (const string& name : labels)
        if (content.contains(name)) {
            for (const json& text : entries.list(name, MAX_ATOMS))
                entries.text(text, name);
            if (!entries.get(name).empty() && entries.get(name).size() != numAtoms)
                fail("molecule." + name + " must be empty or name each atom");
        }
    metadata.atomNames = entries.get("atom_names").get<vector<string>>();
    for (const json& bond : entries.list("bonds", 10 * MAX_ATOMS)) {
        if (!bond.is_array() || bond.size() != 2)
            fail("molecule.bonds must be pairs of atoms");
        int first = entries.integer(bond[0], "bonds", numAtoms - 1);
        metadata.bonds.emplace_back(first, entries.integer(bond[1], "bonds", numAtoms - 1));
    }
}

static void parseLags(const Entries& entries, ModelMetadata& metadata) {
    for (const json& lag : entries.list("lag_times", MAX_LAG_TIMES)) {
        bool isInfinite = (lag.is_string() && lag.get<string>() == "inf");
        metadata.lagTimes.push_back(isInfinite ? numeric_limits<double>::infinity()
                                               : entries.real(lag, "lag_times"));
        if (!(metadata.lagTimes.back() > 0))
            fail("a lag time is not positive");
    }
    double sum = 0;
    for (const json& weight : entries.list("lag_weights", MAX_LAG_TIMES)) {
        metadata.lagWeights.push_back(entries.real(weight, "lag_weights"));
        if (!(metadata.lagWeights.back() >= 0))
            fail("a lag weight is negative");
        sum += metadata.lagWeights.back();
    }
    if (metadata.lagTimes.empty() || metadata.lagTimes.size() != metadata.lagWeights.size())
        fail("lag_times and lag_weights must be of one length, at least 1");
    if (!(fabs(sum - 1) <= 1e-6))
        fail("lag_weights do not add up to 1");
}

static void parseReferencePositions(const Entries& entries, ModelMetadata& metadata) {
    if (entries.has("reference_positions"))
        for (const json& p : entries.list("reference_positions", MAX_ATOMS)) {
            if (!p.is_array() || p.size() != 3)
                fail("reference_positions must be of three numbers each");
            metadata.referencePositions.emplace_back(entries.real(p[0], "reference_positions"),
                                                     entries.real(p[1], "reference_positions"),
                                                     entries.real(p[2], "reference_positions"));
        }
    if (!metadata.anyMolecule && metadata.referencePositions.size() != metadata.masses.size())
        fail("reference_positions must hold one position for each atom");
}

static void parseMoved(const Entries& entries, ModelMetadata& metadata) {
    const int numAtoms = metadata.masses.size();
    if (!entries.has("moved")) {
        metadata.moved.resize(numAtoms);
        iota(metadata.moved.begin(), metadata.moved.end(), 0);
        return;
    }
    if (metadata.anyMolecule)
        fail("moved names atoms, but the model is of no molecule");
    for (const json& atom : entries.list("moved", numAtoms)) {
        int index = entries.integer(atom, "moved", numAtoms - 1);
        if (!metadata.moved.empty() && index <= metadata.moved.back())
            fail("moved must name each atom once, in ascending order");
        metadata.moved.push_back(index);
    }
    if (metadata.moved.empty())
        fail("moved names no atom");
}

static void parseStretches(const Entries& entries, ModelMetadata& metadata) {
    metadata.namesStretches = entries.has("stretches");
    if (!metadata.namesStretches)
        return;
    const int64_t numAtoms = metadata.masses.size();
    set<pair<int, int>> bonds;
    for (auto& bond : metadata.bonds)
        bonds.insert(minmax(bond.first, bond.second));
    set<int> placed;
    for (const json& stretch : entries.list("stretches", numAtoms)) {
        if (!stretch.is_array() || stretch.size() != 2)
            fail("stretches must be pairs of atoms");
        int from = entries.integer(stretch[0], "stretches", numAtoms - 1);
        int atom = entries.integer(stretch[1], "stretches", numAtoms - 1);
        if (!bonds.count(minmax(from, atom)))
            fail("stretches name two atoms that are not bonded");
        if (!binary_search(metadata.moved.begin(), metadata.moved.end(), atom))
            fail("the second atom of each stretch must be a moved one");
        if (!placed.insert(atom).second)
            fail("the second atom of each stretch must be another one");
        metadata.stretches.emplace_back(from, atom);
    }
}

static void parseTorsionNoise(const Entries& entries, ModelMetadata& metadata) {
    metadata.namesTorsionNoise = entries.has("torsion_noise");
    if (!metadata.namesTorsionNoise)
        return;
    for (const json& number : entries.list("torsion_noise", metadata.noiseSize)) {
        int index = entries.integer(number, "torsion_noise", metadata.noiseSize - 1);
        if (!metadata.torsionNoise.empty() && index <= metadata.torsionNoise.back())
            fail("torsion_noise must name each number of the noise once, in ascending order");
        metadata.torsionNoise.push_back(index);
    }
}

static ModelMetadata parseEntries(const json& content) {
    const int64_t largest = numeric_limits<int32_t>::max();
    int64_t version = 0;
    if (content.contains("contract_version") && content.at("contract_version").is_number_integer())
        version = content.at("contract_version").get<int64_t>();
    if (version != ModelMetadata::contractVersion)
        fail("they follow contract version " + to_string(version) + ", this plugin reads " +
             to_string(ModelMetadata::contractVersion) + "; export the model again");
    Entries entries(content, "",
                    {"contract_version", "molecule", "noise_size", "temperature", "coordinates", "lag_times",
                     "lag_weights"},
                    {"moved", "stretches", "torsion_noise", "auxiliary_velocities", "precision",
                     "reference_positions", "force_field", "provenance", "licence", "package_version"});
    entries.integer(entries.get("contract_version"), "contract_version", largest);
    ModelMetadata metadata;
    metadata.noiseSize = entries.integer(entries.get("noise_size"), "noise_size", MAX_NOISE_SIZE);
    metadata.temperature = entries.real(entries.get("temperature"), "temperature");
    if (!(metadata.temperature > 0))
        fail("temperature is not positive");
    for (const char* name : {"coordinates", "licence", "package_version"})
        if (content.contains(name))
            entries.text(entries.get(name), name);
    // The first models have the names of the force field's files in one text.
    if (content.contains("force_field") && !entries.get("force_field").is_string())
        for (const json& name : entries.list("force_field", MAX_ATOMS))
            entries.text(name, "force_field");
    if (content.contains("provenance") && !entries.get("provenance").is_object())
        fail("provenance must be an object");
    metadata.auxiliaryVelocities = entries.flag("auxiliary_velocities", true);
    string precision =
            content.contains("precision") ? entries.text(entries.get("precision"), "precision") : "single";
    if (precision != "single" && precision != "double")
        fail("precision must be \"single\" or \"double\"");
    metadata.doublePrecision = (precision == "double");
    parseLags(entries, metadata);
    if (entries.has("molecule"))
        parseMolecule(entries.get("molecule"), metadata);
    parseMoved(entries, metadata);
    parseStretches(entries, metadata);
    parseTorsionNoise(entries, metadata);
    parseReferencePositions(entries, metadata);
    return metadata;
}

ModelMetadata ModelMetadata::parse(const string& text, const string& origin) {
    try {
        ModelMetadata metadata = parseEntries(parseJson(text));
        metadata.origin = origin;
        return metadata;
    }
    catch (const json::exception& error) {
        throw OpenMMException("Timewarp: the metadata of " + origin +
                              " are malformed: " + printable(error.what()));
    }
    catch (const OpenMMException& error) {
        throw OpenMMException("Timewarp: the metadata of " + origin +
                              " cannot be used: " + printable(error.what()));
    }
}

vector<int> ModelMetadata::contextAtoms() const {
    vector<int> context;
    for (int i = 0; i < (int)masses.size(); i++)
        if (!binary_search(moved.begin(), moved.end(), i))
            context.push_back(i);
    return context;
}

string ModelMetadata::describeAtom(int atom) const {
    string description = "atom " + to_string(atom);
    if (!anyMolecule)
        description += " (" + atomNames[atom] + ")";
    return description;
}

double ModelMetadata::pickLag(double uniform, const vector<double>& weights) const {
    double target = uniform * accumulate(weights.begin(), weights.end(), 0.0), sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < lagTimes.size(); i++) {
        if (weights[i] == 0)
            continue;
        last = i;
        sum += weights[i];
        if (target <= sum)
            break;
    }
    return lagTimes[last];
}

static void checkParticle(const System& system, int particle) {
    if (system.isVirtualSite(particle))
        throw OpenMMException(
                "Timewarp: particle " + to_string(particle) +
                " is a virtual site, which has no density of its own; build the System with a force "
                "field without extra particles");
    if (system.getParticleMass(particle) == 0)
        throw OpenMMException(
                "Timewarp: particle " + to_string(particle) +
                " has no mass, so it cannot be moved; give it a mass, or restrain it with a force "
                "instead of freezing it");
}

/**
 * Throw an exception if the masses of a heavy atom and its hydrogens do not add up to the model's.  Between
 * them they may be repartitioned: positions do not depend on masses.
 */
static void checkMasses(const System& system, const vector<int>& particles, const ModelMetadata& metadata) {
    const double heaviestHydrogen = 3.5;
    vector<int> groupOf(particles.size());
    iota(groupOf.begin(), groupOf.end(), 0);
    for (auto& bond : metadata.bonds)
        for (auto [hydrogen, heavy] : {bond, make_pair(bond.second, bond.first)})
            if (metadata.masses[hydrogen] < heaviestHydrogen && metadata.masses[heavy] >= heaviestHydrogen)
                groupOf[hydrogen] = heavy;
    // Of context atoms nothing is asked: they may be frozen by a mass of 0, and those of a fragment may have
    // hydrogens that the model does not know.

    vector<bool> isCompared(particles.size(), false);
    for (int atom : metadata.moved)
        isCompared[groupOf[atom]] = true;
    for (size_t i = 0; i < particles.size(); i++)
        if (system.getParticleMass(particles[i]) == 0)
            isCompared[groupOf[i]] = false;
    vector<double> found(particles.size()), expected(particles.size());
    for (size_t i = 0; i < particles.size(); i++) {
        found[groupOf[i]] += system.getParticleMass(particles[i]);
        expected[groupOf[i]] += metadata.masses[i];
    }
    for (size_t i = 0; i < particles.size(); i++) {
        if (!isCompared[i])
            continue;
        if (fabs(found[i] - expected[i]) <=
            MASS_TOLERANCE * (1 + count(groupOf.begin(), groupOf.end(), (int)i)))
            continue;
        stringstream message;
        message << "Timewarp: particle " << particles[i] << " and the hydrogens on it have a mass of "
                << found[i] << " dalton, but " << metadata.describeAtom(i)
                << " of the model and its hydrogens have " << expected[i]
                << ": the molecule or its atom order is another one; pass topology= of the whole System to "
                   "match "
                   "the order";
        throw OpenMMException(message.str());
    }
}

void ModelMetadata::checkSystem(const System& system, const vector<int>& particles,
                                const vector<pair<int, int>>& systemBonds) const {
    if (!anyMolecule && particles.size() != masses.size()) {
        stringstream message;
        message << "Timewarp: the model " << origin << " has " << masses.size()
                << " atoms but the System has " << particles.size()
                << " particles; use a model made for this molecule or, where it is one among others, pass "
                   "topology= of the whole System";
        throw OpenMMException(message.str());
    }
    set<int> seen;
    for (size_t i = 0; i < particles.size(); i++) {
        int particle = particles[i];
        if (particle < 0 || particle >= system.getNumParticles())
            throw OpenMMException("Timewarp: the model is given particle " + to_string(particle) +
                                  ", which the System does not have; it has " +
                                  to_string(system.getNumParticles()) + ", numbered from 0 on");
        if (!seen.insert(particle).second)
            throw OpenMMException("Timewarp: setParticles() names particle " + to_string(particle) +
                                  " twice; give another particle for each of the model's atoms");
        if (!anyMolecule && !binary_search(moved.begin(), moved.end(), (int)i))
            continue;
        checkParticle(system, particle);
    }
    if (anyMolecule)
        return;
    checkMasses(system, particles, *this);
    if (systemBonds.empty())
        return;
    set<pair<int, int>> present;
    for (auto& bond : systemBonds)
        present.insert(minmax(bond.first, bond.second));
    for (auto& bond : bonds)
        if (!present.count(minmax(particles[bond.first], particles[bond.second])))
            throw OpenMMException(
                    "Timewarp: the model has a bond between " + describeAtom(bond.first) + " and " +
                    describeAtom(bond.second) +
                    " that the System lacks: the molecule or its atom order is another one (pass "
                    "topology= of the whole System to match the order)");
}
