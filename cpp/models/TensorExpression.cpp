#include "TensorExpression.h"
#include "lepton/CustomFunction.h"
#include "lepton/ExpressionTreeNode.h"
#include "lepton/ParsedExpression.h"
#include "lepton/Parser.h"
#include "openmm/OpenMMException.h"
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using at::Tensor;
using Lepton::ExpressionTreeNode;
using Lepton::Operation;

TensorExpression::TensorExpression(const string& text, const map<string, int>& functions) {
    vector<unique_ptr<Lepton::CustomFunction>> placeholders;
    map<string, Lepton::CustomFunction*> known;
    for (const auto& [name, numArguments] : functions) {
        placeholders.push_back(make_unique<Lepton::PlaceholderFunction>(numArguments));
        known[name] = placeholders.back().get();
    }
    Lepton::ParsedExpression parsed = Lepton::Parser::parse(text, known).optimize();
    vector<const ExpressionTreeNode*> nodes;
    add(parsed.getRootNode(), nodes);
}

int TensorExpression::add(const ExpressionTreeNode& node, vector<const ExpressionTreeNode*>& known) {
    for (size_t i = 0; i < known.size(); i++)
        if (*known[i] == node)
            return i;
    vector<int> arguments;
    for (const ExpressionTreeNode& child : node.getChildren())
        arguments.push_back(add(child, known));
    if (node.getOperation().getId() == Operation::VARIABLE)
        variables.insert(node.getOperation().getName());
    known.push_back(&node);
    steps.push_back({shared_ptr<const Operation>(node.getOperation().clone()), arguments});
    return steps.size() - 1;
}

Tensor TensorExpression::evaluate(const Values& values, const Functions& functions) const {
    return prepare(values, functions).back();
}

TensorExpression::Steps TensorExpression::prepare(const Values& values, const Functions& functions) const {
    Steps results(steps.size());
    for (size_t i = 0; i < steps.size(); i++) {
        const Operation& operation = *steps[i].operation;
        if (operation.getId() == Operation::VARIABLE) {
            auto found = values.find(operation.getName());
            if (found != values.end())
                results[i] = found->second;
            continue;
        }
        vector<Tensor> arguments;
        for (int argument : steps[i].arguments)
            if (results[argument].defined())
                arguments.push_back(results[argument]);
        if (arguments.size() == steps[i].arguments.size())
            results[i] = apply(operation, arguments, functions);
    }
    return results;
}

Tensor TensorExpression::finish(const Steps& prepared, const Values& values, const Functions& functions,
                                const function<Tensor(const Tensor&)>& spread) const {
    Steps results(steps.size());
    auto result = [&](int step) {
        if (!results[step].defined())
            results[step] = prepared[step].dim() == 0 ? prepared[step] : spread(prepared[step]);
        return results[step];
    };
    for (size_t i = 0; i < steps.size(); i++) {
        if (prepared[i].defined())
            continue;
        const Operation& operation = *steps[i].operation;
        if (operation.getId() == Operation::VARIABLE) {
            auto found = values.find(operation.getName());
            if (found == values.end())
                throw OpenMMException("Timewarp: the variable '" + operation.getName() +
                                      "' of an energy expression has no value");
            results[i] = found->second;
            continue;
        }
        vector<Tensor> arguments;
        for (int argument : steps[i].arguments)
            arguments.push_back(result(argument));
        results[i] = apply(operation, arguments, functions);
    }
    return result(steps.size() - 1);
}

/**
 * A few products are much faster than pow().
 */
static Tensor power(const Tensor& x, double exponent) {
    int whole = (int)exponent;
    if (whole != exponent || whole == 0 || abs(whole) > 16)
        return at::pow(x, exponent);
    Tensor factor = x, product;
    for (int bits = abs(whole); bits > 0; bits >>= 1) {
        if (bits & 1)
            product = product.defined() ? product * factor : factor;
        if (bits > 1)
            factor = factor * factor;
    }
    return whole < 0 ? at::reciprocal(product) : product;
}

Tensor TensorExpression::apply(const Operation& operation, const vector<Tensor>& x,
                               const Functions& functions) {
    switch (operation.getId()) {
    case Operation::CONSTANT:
        return at::scalar_tensor(dynamic_cast<const Operation::Constant&>(operation).getValue(), at::kDouble);
    case Operation::CUSTOM:
        return functions.at(operation.getName())(x);
    case Operation::ADD:
        return x[0] + x[1];
    case Operation::SUBTRACT:
        return x[0] - x[1];
    case Operation::MULTIPLY:
        return x[0] * x[1];
    case Operation::DIVIDE:
        return x[0] / x[1];
    case Operation::POWER:
        return at::pow(x[0], x[1]);
    case Operation::NEGATE:
        return -x[0];
    case Operation::SQRT:
        return at::sqrt(x[0]);
    case Operation::EXP:
        return at::exp(x[0]);
    case Operation::LOG:
        return at::log(x[0]);
    case Operation::SIN:
        return at::sin(x[0]);
    case Operation::COS:
        return at::cos(x[0]);
    case Operation::SEC:
        return at::reciprocal(at::cos(x[0]));
    case Operation::CSC:
        return at::reciprocal(at::sin(x[0]));
    case Operation::TAN:
        return at::tan(x[0]);
    case Operation::COT:
        return at::reciprocal(at::tan(x[0]));
    case Operation::ASIN:
        return at::asin(x[0]);
    case Operation::ACOS:
        return at::acos(x[0]);
    case Operation::ATAN:
        return at::atan(x[0]);
    case Operation::ATAN2:
        return at::atan2(x[0], x[1]);
    case Operation::SINH:
        return at::sinh(x[0]);
    case Operation::COSH:
        return at::cosh(x[0]);
    case Operation::TANH:
        return at::tanh(x[0]);
    case Operation::ERF:
        return at::erf(x[0]);
    case Operation::ERFC:
        return at::erfc(x[0]);
    case Operation::STEP:
        return at::ge(x[0], 0).to(at::kDouble);
    case Operation::DELTA:
        return at::eq(x[0], 0).to(at::kDouble);
    case Operation::SQUARE:
        return x[0] * x[0];
    case Operation::CUBE:
        return x[0] * x[0] * x[0];
    case Operation::RECIPROCAL:
        return at::reciprocal(x[0]);
    case Operation::ADD_CONSTANT:
        return x[0] + dynamic_cast<const Operation::AddConstant&>(operation).getValue();
    case Operation::MULTIPLY_CONSTANT:
        return x[0] * dynamic_cast<const Operation::MultiplyConstant&>(operation).getValue();
    case Operation::POWER_CONSTANT:
        return power(x[0], dynamic_cast<const Operation::PowerConstant&>(operation).getValue());
    case Operation::MIN:
        return at::minimum(x[0], x[1]);
    case Operation::MAX:
        return at::maximum(x[0], x[1]);
    case Operation::ABS:
        return at::abs(x[0]);
    case Operation::FLOOR:
        return at::floor(x[0]);
    case Operation::CEIL:
        return at::ceil(x[0]);
    case Operation::SELECT:
        return at::where(at::ne(x[0], 0), x[1], x[2]);
    default:
        throw OpenMMException("Timewarp: the operation '" + operation.getName() +
                              "' of an energy expression is not known");
    }
}
