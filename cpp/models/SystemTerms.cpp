#include "SystemTerms.h"
#include "BornFunctions.h"
#include "BornSums.h"
#include "Sha256.h"
#include "TensorExpression.h"
#include "lepton/Exception.h"
#include "openmm/AndersenThermostat.h"
#include "openmm/CMAPTorsionForce.h"
#include "openmm/CMMotionRemover.h"
#include "openmm/CustomAngleForce.h"
#include "openmm/CustomBondForce.h"
#include "openmm/CustomExternalForce.h"
#include "openmm/CustomNonbondedForce.h"
#include "openmm/CustomTorsionForce.h"
#include "openmm/GBSAOBCForce.h"
#include "openmm/HarmonicAngleForce.h"
#include "openmm/HarmonicBondForce.h"
#include "openmm/MonteCarloAnisotropicBarostat.h"
#include "openmm/MonteCarloBarostat.h"
#include "openmm/MonteCarloFlexibleBarostat.h"
#include "openmm/MonteCarloMembraneBarostat.h"
#include "openmm/NonbondedForce.h"
#include "openmm/OpenMMException.h"
#include "openmm/PeriodicTorsionForce.h"
#include "openmm/RBTorsionForce.h"
#include "openmm/TabulatedFunction.h"
#include "openmm/VirtualSite.h"
#include "openmm/internal/CMAPTorsionForceImpl.h"
#include "openmm/internal/SplineFitter.h"
#include "openmm/reference/SimTKOpenMMRealType.h"
#include <cmath>
#include <cstdio>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

double ParameterTable::get(int row, int column, const map<string, double>& globals) const {
    double value = values[row * columns.size() + column];
    auto [begin, end] = offsets.equal_range(row);
    for (auto offset = begin; offset != end; ++offset)
        if (offset->second.column == column)
            value += offset->second.scale * globals.at(offset->second.global);
    return value;
}

int BondedForm::getNumParticles() const {
    static const int counts[] = {1, 2, 3, 4, 8};
    return counts[coordinate];
}

int BondedForm::getNumTerms() const {
    return particles.size() / getNumParticles();
}

namespace {

/**
 * Thrown by a reader, with the reason why a Force is left out.
 */
struct Untranslatable {
    string reason;
};

struct Forms {
    vector<BondedForm> bonded;
    vector<PairForm> pairs;
    vector<BornForm> born;
    vector<string> leftOut;
};

string number(double value) {
    char text[40];
    snprintf(text, sizeof(text), "(%.17g)", value);
    return text;
}

shared_ptr<const TensorExpression> parse(const string& text, const map<string, int>& functions = {}) {
    try {
        return make_shared<TensorExpression>(text, functions);
    }
    catch (const Lepton::Exception& error) {
        throw Untranslatable{string("its expression cannot be translated: ") + error.what()};
    }
}

BondedForm bondedForm(const Force& force, BondedForm::Coordinate coordinate, const string& text,
                      const vector<string>& columns) {
    static const map<string, int> functions[] = {{{"periodicdistance", 6}}, {}, {}, {}, {{"torsionmap", 3}}};
    BondedForm form;
    form.name = force.getName();
    form.coordinate = coordinate;
    form.periodic = force.usesPeriodicBoundaryConditions();
    form.text = text;
    form.expression = parse(text, functions[coordinate]);
    form.parameters.columns = columns;
    return form;
}

void addTerm(BondedForm& form, const vector<int>& particles, const vector<double>& values) {
    form.particles.insert(form.particles.end(), particles.begin(), particles.end());
    form.parameters.values.insert(form.parameters.values.end(), values.begin(), values.end());
}

template <class CustomForce> vector<string> globalsOf(const CustomForce& force) {
    vector<string> names;
    for (int i = 0; i < force.getNumGlobalParameters(); i++)
        names.push_back(force.getGlobalParameterName(i));
    return names;
}

// ---------------------------------------------------------------------------------------------------
// Bonded terms
// ---------------------------------------------------------------------------------------------------

void read(const HarmonicBondForce& force, Forms& forms) {
    BondedForm form = bondedForm(force, BondedForm::DISTANCE, "0.5*k*(r-r0)^2", {"r0", "k"});
    for (int i = 0; i < force.getNumBonds(); i++) {
        int p1, p2;
        double length, k;
        force.getBondParameters(i, p1, p2, length, k);
        addTerm(form, {p1, p2}, {length, k});
    }
    forms.bonded.push_back(form);
}

void read(const HarmonicAngleForce& force, Forms& forms) {
    BondedForm form = bondedForm(force, BondedForm::ANGLE, "0.5*k*(theta-theta0)^2", {"theta0", "k"});
    for (int i = 0; i < force.getNumAngles(); i++) {
        int p1, p2, p3;
        double angle, k;
        force.getAngleParameters(i, p1, p2, p3, angle, k);
        addTerm(form, {p1, p2, p3}, {angle, k});
    }
    forms.bonded.push_back(form);
}

void read(const PeriodicTorsionForce& force, Forms& forms) {
    BondedForm form = bondedForm(force, BondedForm::TORSION, "k*(1+cos(n*theta-phase))", {"n", "phase", "k"});
    for (int i = 0; i < force.getNumTorsions(); i++) {
        int p1, p2, p3, p4, n;
        double phase, k;
        force.getTorsionParameters(i, p1, p2, p3, p4, n, phase, k);
        addTerm(form, {p1, p2, p3, p4}, {(double)n, phase, k});
    }
    forms.bonded.push_back(form);
}

void read(const RBTorsionForce& force, Forms& forms) {
    BondedForm form =
            bondedForm(force, BondedForm::TORSION, "c0+x*(c1+x*(c2+x*(c3+x*(c4+x*c5)))); x=-cos(theta)",
                       {"c0", "c1", "c2", "c3", "c4", "c5"});
    for (int i = 0; i < force.getNumTorsions(); i++) {
        int p1, p2, p3, p4;
        vector<double> c(6);
        force.getTorsionParameters(i, p1, p2, p3, p4, c[0], c[1], c[2], c[3], c[4], c[5]);
        addTerm(form, {p1, p2, p3, p4}, c);
    }
    forms.bonded.push_back(form);
}

void read(const CMAPTorsionForce& force, Forms& forms) {
    BondedForm form = bondedForm(force, BondedForm::TWO_TORSIONS, "torsionmap(map, theta1, theta2)", {"map"});
    int numPatches = 0;
    for (int i = 0; i < force.getNumMaps(); i++) {
        int size;
        vector<double> energy;
        vector<vector<double>> coefficients;
        force.getMapParameters(i, size, energy);
        CMAPTorsionForceImpl::calcMapDerivatives(size, energy, coefficients);
        form.maps.sizes.push_back(size);
        form.maps.first.push_back(numPatches);
        numPatches += size * size;
        for (const vector<double>& patch : coefficients)
            form.maps.coefficients.insert(form.maps.coefficients.end(), patch.begin(), patch.end());
    }
    for (int i = 0; i < force.getNumTorsions(); i++) {
        int map;
        vector<int> p(8);
        force.getTorsionParameters(i, map, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
        addTerm(form, p, {(double)map});
    }
    forms.bonded.push_back(form);
}

void read(const CustomBondForce& force, Forms& forms) {
    vector<string> columns;
    for (int i = 0; i < force.getNumPerBondParameters(); i++)
        columns.push_back(force.getPerBondParameterName(i));
    BondedForm form = bondedForm(force, BondedForm::DISTANCE, force.getEnergyFunction(), columns);
    form.globals = globalsOf(force);
    for (int i = 0; i < force.getNumBonds(); i++) {
        int p1, p2;
        vector<double> values;
        force.getBondParameters(i, p1, p2, values);
        addTerm(form, {p1, p2}, values);
    }
    forms.bonded.push_back(form);
}

void read(const CustomAngleForce& force, Forms& forms) {
    vector<string> columns;
    for (int i = 0; i < force.getNumPerAngleParameters(); i++)
        columns.push_back(force.getPerAngleParameterName(i));
    BondedForm form = bondedForm(force, BondedForm::ANGLE, force.getEnergyFunction(), columns);
    form.globals = globalsOf(force);
    for (int i = 0; i < force.getNumAngles(); i++) {
        int p1, p2, p3;
        vector<double> values;
        force.getAngleParameters(i, p1, p2, p3, values);
        addTerm(form, {p1, p2, p3}, values);
    }
    forms.bonded.push_back(form);
}

void read(const CustomTorsionForce& force, Forms& forms) {
    vector<string> columns;
    for (int i = 0; i < force.getNumPerTorsionParameters(); i++)
        columns.push_back(force.getPerTorsionParameterName(i));
    BondedForm form = bondedForm(force, BondedForm::TORSION, force.getEnergyFunction(), columns);
    form.globals = globalsOf(force);
    for (int i = 0; i < force.getNumTorsions(); i++) {
        int p1, p2, p3, p4;
        vector<double> values;
        force.getTorsionParameters(i, p1, p2, p3, p4, values);
        addTerm(form, {p1, p2, p3, p4}, values);
    }
    forms.bonded.push_back(form);
}

void read(const CustomExternalForce& force, Forms& forms) {
    vector<string> columns;
    for (int i = 0; i < force.getNumPerParticleParameters(); i++)
        columns.push_back(force.getPerParticleParameterName(i));
    BondedForm form = bondedForm(force, BondedForm::POSITION, force.getEnergyFunction(), columns);
    form.globals = globalsOf(force);
    for (int i = 0; i < force.getNumParticles(); i++) {
        int particle;
        vector<double> values;
        force.getParticleParameters(i, particle, values);
        addTerm(form, {particle}, values);
    }
    forms.bonded.push_back(form);
}

// ---------------------------------------------------------------------------------------------------
// NonbondedForce
// ---------------------------------------------------------------------------------------------------

bool isEwald(const NonbondedForce& force) {
    NonbondedForce::NonbondedMethod method = force.getNonbondedMethod();
    return method == NonbondedForce::Ewald || method == NonbondedForce::PME ||
           method == NonbondedForce::LJPME;
}

NonbondedFunction nonbondedFunction(const NonbondedForce& force) {
    NonbondedFunction function;
    const NonbondedForce::NonbondedMethod method = force.getNonbondedMethod();
    if (method == NonbondedForce::NoCutoff)
        return function;

    // In place of the reciprocal part, which costs too much, stands the field of a conductor: that is
    // closer to the whole energy than Ewald's direct part alone (docs/theory.md has figures).

    const double cutoff = force.getCutoffDistance(), dielectric = force.getReactionFieldDielectric();
    function.k =
            (isEwald(force) ? 0.5 : (dielectric - 1) / (2 * dielectric + 1)) / (cutoff * cutoff * cutoff);
    function.c = (isEwald(force) ? 1.5 : 3 * dielectric / (2 * dielectric + 1)) / cutoff;

    // OpenMM has no switching function with LJPME.

    if (method != NonbondedForce::LJPME && force.getUseSwitchingFunction()) {
        function.isSwitched = true;
        function.begin = force.getSwitchingDistance();
        function.rate = 1 / (cutoff - function.begin);
    }
    return function;
}

string textOf(const NonbondedFunction& function) {
    string switching, definitions;
    if (function.isSwitched) {
        switching = "*(1+t^3*(-10+t*(15-6*t)))";
        definitions = "; t=max(0,(r-" + number(function.begin) + ")*" + number(function.rate) + ")";
    }
    return "q*(ir+" + number(function.k) + "*r^2-" + number(function.c) + ")+(c12*i6-c6)*i6" + switching +
           definitions + "; q=" + number(ONE_4PI_EPS0) +
           "*charge1*charge2; i6=ir^6; ir=1/r; c12=c6*s6; c6=4*sqrt(epsilon1*epsilon2)*s6; "
           "s6=(0.5*(sigma1+sigma2))^6";
}

PairForm nonbondedPairs(const NonbondedForce& force) {
    PairForm form;
    form.name = force.getName();
    form.nonbonded = nonbondedFunction(force);
    form.text = textOf(*form.nonbonded);
    form.expression = parse(form.text);
    form.parameters.columns = {"charge", "sigma", "epsilon"};
    for (int i = 0; i < force.getNumParticles(); i++) {
        double values[3];
        force.getParticleParameters(i, values[0], values[1], values[2]);
        form.parameters.values.insert(form.parameters.values.end(), values, values + 3);
    }
    for (int i = 0; i < force.getNumParticleParameterOffsets(); i++) {
        string name;
        int particle;
        double scales[3];
        force.getParticleParameterOffset(i, name, particle, scales[0], scales[1], scales[2]);
        for (int column = 0; column < 3; column++)
            if (scales[column] != 0)
                form.parameters.offsets.insert({particle, {name, column, scales[column]}});
    }
    for (int i = 0; i < force.getNumExceptions(); i++) {
        int p1, p2;
        double charge, sigma, epsilon;
        force.getExceptionParameters(i, p1, p2, charge, sigma, epsilon);
        form.exclusions.push_back({p1, p2});
    }
    if (force.getNonbondedMethod() != NonbondedForce::NoCutoff)
        form.cutoff = force.getCutoffDistance();
    form.periodic = force.usesPeriodicBoundaryConditions();
    return form;
}

BondedForm exceptions(const NonbondedForce& force) {
    BondedForm form = bondedForm(force, BondedForm::DISTANCE,
                                 number(ONE_4PI_EPS0) + "*charge/r+4*epsilon*(s6^2-s6); s6=(sigma/r)^6",
                                 {"charge", "sigma", "epsilon"});
    form.periodic = force.getExceptionsUsePeriodicBoundaryConditions();
    set<int> changed;
    for (int i = 0; i < force.getNumExceptionParameterOffsets(); i++) {
        string name;
        int exception;
        double scales[3];
        force.getExceptionParameterOffset(i, name, exception, scales[0], scales[1], scales[2]);
        changed.insert(exception);
    }
    vector<int> term(force.getNumExceptions(), -1);
    for (int i = 0; i < force.getNumExceptions(); i++) {
        int p1, p2;
        double charge, sigma, epsilon;
        force.getExceptionParameters(i, p1, p2, charge, sigma, epsilon);
        if (charge == 0 && epsilon == 0 && changed.count(i) == 0)
            continue;
        term[i] = form.getNumTerms();
        addTerm(form, {p1, p2}, {charge, sigma, epsilon});
    }
    for (int i = 0; i < force.getNumExceptionParameterOffsets(); i++) {
        string name;
        int exception;
        double scales[3];
        force.getExceptionParameterOffset(i, name, exception, scales[0], scales[1], scales[2]);
        for (int column = 0; column < 3; column++)
            if (scales[column] != 0)
                form.parameters.offsets.insert({term[exception], {name, column, scales[column]}});
    }
    return form;
}

/**
 * The reciprocal part holds all pairs, excluded ones too, and so does the field that stands for it.
 */
BondedForm fieldOfExclusions(const NonbondedForce& force, const PairForm& pairs) {
    BondedForm form = bondedForm(force, BondedForm::DISTANCE,
                                 number(ONE_4PI_EPS0 * pairs.nonbonded->k) + "*charge1*charge2*r^2",
                                 {"charge1", "charge2"});
    form.periodic = force.getExceptionsUsePeriodicBoundaryConditions();
    for (auto [p1, p2] : pairs.exclusions) {
        for (int end : {0, 1}) {
            auto [from, to] = pairs.parameters.offsets.equal_range(end == 0 ? p1 : p2);
            for (auto offset = from; offset != to; ++offset)
                if (offset->second.column == 0)
                    form.parameters.offsets.insert(
                            {form.getNumTerms(), {offset->second.global, end, offset->second.scale}});
        }
        addTerm(form, {p1, p2}, {pairs.parameters.values[3 * p1], pairs.parameters.values[3 * p2]});
    }
    return form;
}

void read(const NonbondedForce& force, Forms& forms) {
    if (isEwald(force))
        forms.leftOut.push_back("the reciprocal space of " + force.getName());
    if (!force.getIncludeDirectSpace())
        return;
    forms.pairs.push_back(nonbondedPairs(force));
    forms.bonded.push_back(exceptions(force));
    if (isEwald(force))
        forms.bonded.push_back(fieldOfExclusions(force, forms.pairs.back()));
}

// ---------------------------------------------------------------------------------------------------
// CustomNonbondedForce
// ---------------------------------------------------------------------------------------------------

FunctionTable readFunction(const TabulatedFunction& function) {
    FunctionTable table;
    if (auto* spline = dynamic_cast<const Continuous1DFunction*>(&function)) {
        spline->getFunctionParameters(table.values, table.low, table.high);
        // OpenMM sets this of functions of continuous arguments only.

        table.periodic = spline->getPeriodic();
        int count = table.values.size();
        vector<double> x(count);
        for (int i = 0; i < count; i++)
            x[i] = table.low + i * (table.high - table.low) / (count - 1);
        SplineFitter::createSpline(x, table.values, table.periodic, table.secondDerivatives);
    }
    else if (auto* discrete = dynamic_cast<const Discrete1DFunction*>(&function)) {
        discrete->getFunctionParameters(table.values);
        table.sizes = {(int)table.values.size()};
    }
    else if (auto* discrete = dynamic_cast<const Discrete2DFunction*>(&function)) {
        table.sizes.resize(2);
        discrete->getFunctionParameters(table.sizes[0], table.sizes[1], table.values);
    }
    else if (auto* discrete = dynamic_cast<const Discrete3DFunction*>(&function)) {
        table.sizes.resize(3);
        discrete->getFunctionParameters(table.sizes[0], table.sizes[1], table.sizes[2], table.values);
    }
    else
        throw Untranslatable{"a tabulated function of two or three continuous arguments is not translated"};
    return table;
}

void read(const CustomNonbondedForce& force, Forms& forms) {
    PairForm form;
    form.name = force.getName();
    form.text = force.getEnergyFunction();
    form.globals = globalsOf(force);
    map<string, int> functions;
    for (int i = 0; i < force.getNumTabulatedFunctions(); i++) {
        const string& name = force.getTabulatedFunctionName(i);
        FunctionTable table = readFunction(force.getTabulatedFunction(i));
        functions[name] = max<int>(1, table.sizes.size());
        form.functions[name] = table;
    }
    form.expression = parse(form.text, functions);
    for (int i = 0; i < force.getNumPerParticleParameters(); i++)
        form.parameters.columns.push_back(force.getPerParticleParameterName(i));
    for (int i = 0; i < force.getNumParticles(); i++) {
        vector<double> values;
        force.getParticleParameters(i, values);
        form.parameters.values.insert(form.parameters.values.end(), values.begin(), values.end());
    }
    for (int i = 0; i < force.getNumComputedValues(); i++) {
        string name, expression;
        force.getComputedValueParameters(i, name, expression);
        form.computed.push_back({name, parse(expression, functions)});
        form.text += "; " + name + ":=" + expression;
    }
    for (int i = 0; i < force.getNumExclusions(); i++) {
        int p1, p2;
        force.getExclusionParticles(i, p1, p2);
        form.exclusions.push_back({p1, p2});
    }
    for (int i = 0; i < force.getNumInteractionGroups(); i++) {
        form.groups.emplace_back();
        force.getInteractionGroupParameters(i, form.groups.back().first, form.groups.back().second);
    }
    if (force.getNonbondedMethod() != CustomNonbondedForce::NoCutoff) {
        form.cutoff = force.getCutoffDistance();
        if (force.getUseSwitchingFunction())
            form.switching = force.getSwitchingDistance();
    }
    form.periodic = force.usesPeriodicBoundaryConditions();
    forms.pairs.push_back(form);
}

// ---------------------------------------------------------------------------------------------------
// GBSAOBCForce
// ---------------------------------------------------------------------------------------------------

void read(const GBSAOBCForce& force, Forms& forms) {
    const double offset = 0.009;
    BornForm form;
    form.name = force.getName();
    double largestReduced = 0, largestScaled = 0;
    for (int i = 0; i < force.getNumParticles(); i++) {
        double charge, radius, scale;
        force.getParticleParameters(i, charge, radius, scale);
        if (radius <= offset)
            throw Untranslatable{"the radius of particle " + to_string(i) + " is not above 0.009 nm"};
        form.charges.push_back(charge);
        form.radii.push_back(radius);
        form.reduced.push_back(radius - offset);
        form.scaled.push_back(scale * (radius - offset));
        largestReduced = max(largestReduced, form.reduced.back());
        largestScaled = max(largestScaled, form.scaled.back());
    }
    form.farDistance = max(FAR_RADII * largestScaled, largestReduced + largestScaled);
    form.prefactor = -ONE_4PI_EPS0 * (1 / force.getSoluteDielectric() - 1 / force.getSolventDielectric());
    form.surface = 4 * M_PI * force.getSurfaceAreaEnergy();
    if (force.getNonbondedMethod() != GBSAOBCForce::NoCutoff)
        form.cutoff = force.getCutoffDistance();
    form.periodic = force.usesPeriodicBoundaryConditions();
    form.sums = make_shared<BornSums>();
    forms.born.push_back(form);
}

// ---------------------------------------------------------------------------------------------------

template <class Kind> bool readIf(const Force& force, Forms& forms) {
    auto* found = dynamic_cast<const Kind*>(&force);
    if (found == NULL)
        return false;
    try {
        read(*found, forms);
    }
    catch (const Untranslatable& error) {
        forms.leftOut.push_back(force.getName() + " (" + error.reason + ")");
    }
    return true;
}

template <class... Kinds> bool readAny(const Force& force, Forms& forms) {
    return (readIf<Kinds>(force, forms) || ...);
}

template <class... Kinds> bool isAny(const Force& force) {
    return ((dynamic_cast<const Kinds*>(&force) != NULL) || ...);
}

bool hasNoEnergy(const Force& force) {
    return isAny<AndersenThermostat, CMMotionRemover, MonteCarloBarostat, MonteCarloAnisotropicBarostat,
                 MonteCarloFlexibleBarostat, MonteCarloMembraneBarostat>(force);
}

template <class Form> void collectGlobals(const vector<Form>& forms, set<string>& names) {
    for (const Form& form : forms) {
        names.insert(form.globals.begin(), form.globals.end());
        for (const auto& [row, offset] : form.parameters.offsets)
            names.insert(offset.global);
    }
}

/**
 * Text that tells different terms apart, for the digest.
 */
class Record {
public:
    void add(double value) {
        text.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    void add(int value) {
        text.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    void add(const string& value) {
        add((int)value.size());
        text += value;
    }
    template <class A, class B> void add(const pair<A, B>& value) {
        add(value.first);
        add(value.second);
    }
    void add(const ParameterOffset& offset) {
        add(offset.global);
        add(offset.column);
        add(offset.scale);
    }
    void add(const FunctionTable& table) {
        addAll(table.sizes);
        addAll(table.values);
        add(table.low);
        add(table.high);
        add((int)table.periodic);
    }
    template <class Items> void addAll(const Items& items) {
        add((int)items.size());
        for (const auto& item : items)
            add(item);
    }
    void add(const set<int>& items) {
        addAll(items);
    }
    void add(const ParameterTable& table) {
        addAll(table.columns);
        addAll(table.values);
        addAll(table.offsets);
    }
    void add(const BondedForm& form) {
        add((int)form.coordinate);
        add((int)form.periodic);
        add(form.text);
        addAll(form.particles);
        add(form.parameters);
        addAll(form.maps.coefficients);
    }
    void add(const PairForm& form) {
        add(form.text);
        add(form.parameters);
        addAll(form.functions);
        addAll(form.exclusions);
        addAll(form.groups);
        add(form.cutoff);
        add((int)form.periodic);
        add(form.switching);
    }
    void add(const BornForm& form) {
        for (const vector<double>* values : {&form.charges, &form.radii, &form.reduced, &form.scaled})
            addAll(*values);
        add(form.prefactor);
        add(form.surface);
        add(form.cutoff);
        add((int)form.periodic);
    }
    string text;
};

} // namespace

SystemTerms::SystemTerms(const System& system, int forceGroups) : numParticles(system.getNumParticles()) {
    Forms forms;
    for (int i = 0; i < system.getNumForces(); i++) {
        const Force& force = system.getForce(i);
        if ((forceGroups & (1 << force.getForceGroup())) == 0 || hasNoEnergy(force))
            continue;
        if (!readAny<HarmonicBondForce, HarmonicAngleForce, PeriodicTorsionForce, RBTorsionForce,
                     CMAPTorsionForce, NonbondedForce, CustomBondForce, CustomAngleForce, CustomTorsionForce,
                     CustomExternalForce, CustomNonbondedForce, GBSAOBCForce>(force, forms))
            forms.leftOut.push_back(force.getName());
    }
    bonded = move(forms.bonded);
    pairs = move(forms.pairs);
    born = move(forms.born);
    leftOut = move(forms.leftOut);
    collectGlobals(bonded, globals);
    collectGlobals(pairs, globals);
    for (int i = 0; i < numParticles; i++)
        if (system.isVirtualSite(i)) {
            const VirtualSite& site = system.getVirtualSite(i);
            for (int k = 0; k < site.getNumParticles(); k++)
                sites[i].push_back(site.getParticle(k));
        }
    Record record;
    record.add(numParticles);
    record.addAll(bonded);
    record.addAll(pairs);
    if (!born.empty())
        record.addAll(born);
    digest = sha256(record.text);
}

set<int> SystemTerms::getSitesOf(const set<int>& particles) const {
    set<int> found;
    size_t before;
    do {
        before = found.size();
        for (const auto& [site, parents] : sites)
            for (int parent : parents)
                if (particles.count(parent) > 0 || found.count(parent) > 0)
                    found.insert(site);
    } while (found.size() != before);
    return found;
}
