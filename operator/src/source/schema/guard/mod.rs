//! The common rule, decided without an interpreter.
//!
//! A route has some fifty CEL rules, and nearly all say "if this field is set, that one must be". Deciding them with the
//! CEL interpreter, which copies the value for every step, takes a quarter of a millisecond per route: seconds, at ten
//! thousand. So a rule is first looked at here, on the JSON as it is. What this module knows is a part of CEL; where it
//! does not know, or finds a rule broken, the interpreter decides. Promise, held by a test against the interpreter: it
//! never calls a rule kept that is not.

mod value;

use kube_cel::cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, Expr, LiteralValue, operators},
};
use regex::Regex;

use super::escape::unescape;

/// An expression, ready to be looked at.
#[derive(Debug)]
pub(super) enum Guard {
    Bool(bool),
    Int(i64),
    Text(String),
    Variable(String),
    Field(Box<Guard>, String),
    Has(Box<Guard>, String),
    Index(Box<Guard>, Box<Guard>),
    List(Vec<Guard>),
    Not(Box<Guard>),
    And(Box<Guard>, Box<Guard>),
    Or(Box<Guard>, Box<Guard>),
    If(Box<[Guard; 3]>),
    NotStrictlyFalse(Box<Guard>),
    Compare(Comparison, Box<Guard>, Box<Guard>),
    Add(Box<Guard>, Box<Guard>),
    In(Box<Guard>, Box<Guard>),
    Size(Box<Guard>),
    Test(TextTest, Box<Guard>, Box<Guard>),
    Matches(Box<Guard>, Regex),
    Fold(Box<Fold>),
    /// Something else: the interpreter knows.
    Unknown,
}

/// Which comparison.
#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which test of a text with a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

/// `all`, `exists`, `exists_one` and `filter`, as the parser unfolds them.
#[derive(Debug)]
pub(super) struct Fold {
    range: Guard,
    item: String,
    so_far: String,
    start: Guard,
    goes_on: Guard,
    step: Guard,
    result: Guard,
}

impl Guard {
    /// Makes an expression ready.
    pub(super) fn new(expression: &IdedExpr) -> Self {
        match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => Self::Bool(*value.inner()),
            Expr::Literal(LiteralValue::Int(value)) => Self::Int(*value.inner()),
            Expr::Literal(LiteralValue::String(value)) => Self::Text(value.inner().to_owned()),
            Expr::Ident(name) => Self::Variable(name.clone()),
            Expr::Select(select) => {
                let (of, field) = (Box::new(Self::new(&select.operand)), unescape(&select.field));
                if select.test { Self::Has(of, field) } else { Self::Field(of, field) }
            }
            Expr::List(list) if list.optional_indices.is_empty() => {
                Self::List(list.elements.iter().map(Self::new).collect())
            }
            Expr::Call(call) => {
                let target = call.target.as_deref();
                let operands: Vec<_> = target.into_iter().chain(&call.args).map(Self::new).collect();
                Self::call(&call.func_name, target.is_some(), operands)
            }
            Expr::Comprehension(fold) => Self::fold(fold),
            _ => Self::Unknown,
        }
    }

    fn call(name: &str, method: bool, operands: Vec<Self>) -> Self {
        let mut operands = operands.into_iter().map(Box::new);
        match (name, operands.next(), operands.next(), operands.next()) {
            (operators::LOGICAL_NOT, Some(a), None, _) => Self::Not(a),
            (operators::NOT_STRICTLY_FALSE, Some(a), None, _) => Self::NotStrictlyFalse(a),
            ("size", Some(a), None, _) => Self::Size(a),
            (operators::CONDITIONAL, Some(a), Some(b), Some(c)) => Self::If(Box::new([*a, *b, *c])),
            (_, Some(a), Some(b), None) => Self::binary(name, method, a, b),
            _ => Self::Unknown,
        }
    }

    fn binary(name: &str, method: bool, a: Box<Self>, b: Box<Self>) -> Self {
        match name {
            operators::LOGICAL_AND => Self::And(a, b),
            operators::LOGICAL_OR => Self::Or(a, b),
            operators::ADD => Self::Add(a, b),
            operators::INDEX => Self::Index(a, b),
            operators::IN => Self::In(a, b),
            operators::EQUALS => Self::Compare(Comparison::Equal, a, b),
            operators::NOT_EQUALS => Self::Compare(Comparison::Unequal, a, b),
            operators::LESS => Self::Compare(Comparison::Less, a, b),
            operators::LESS_EQUALS => Self::Compare(Comparison::LessOrEqual, a, b),
            operators::GREATER => Self::Compare(Comparison::Greater, a, b),
            operators::GREATER_EQUALS => Self::Compare(Comparison::GreaterOrEqual, a, b),
            "contains" if method => Self::Test(TextTest::Contains, a, b),
            "startsWith" if method => Self::Test(TextTest::StartsWith, a, b),
            "endsWith" if method => Self::Test(TextTest::EndsWith, a, b),
            "matches" if method => match &*b {
                Self::Text(pattern) => {
                    Regex::new(pattern).map_or(Self::Unknown, |regex| Self::Matches(a, regex))
                }
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }

    fn fold(fold: &ComprehensionExpr) -> Self {
        if fold.iter_var2.is_some() {
            return Self::Unknown;
        }
        Self::Fold(Box::new(Fold {
            range: Self::new(&fold.iter_range),
            item: fold.iter_var.clone(),
            so_far: fold.accu_var.clone(),
            start: Self::new(&fold.accu_init),
            goes_on: Self::new(&fold.loop_cond),
            step: Self::new(&fold.loop_step),
            result: Self::new(&fold.result),
        }))
    }
}
