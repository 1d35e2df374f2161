//! Looking at an object with a guard.

use serde_json::Value;

use super::{Comparison, Fold, Guard, TextTest};

/// A value of an expression, borrowed from the object wherever it can be.
#[derive(Clone, Debug)]
enum Val<'a> {
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// A list or a map.
    Json(&'a Value),
    List(Vec<Val<'a>>),
}

/// Variables, the innermost last.
type Scope<'a> = Vec<(&'a str, Val<'a>)>;

impl Guard {
    /// Whether the rule is kept by `object`; `None` when that cannot be told here.
    pub(in crate::source::schema) fn holds(&self, object: &Value) -> Option<bool> {
        self.boolean(&mut vec![("self", Val::of(object)?)])
    }

    fn boolean<'a>(&'a self, scope: &mut Scope<'a>) -> Option<bool> {
        if let Val::Bool(value) = self.value(scope)? { Some(value) } else { None }
    }

    fn text<'a>(&'a self, scope: &mut Scope<'a>) -> Option<&'a str> {
        if let Val::Text(text) = self.value(scope)? { Some(text) } else { None }
    }

    fn value<'a>(&'a self, scope: &mut Scope<'a>) -> Option<Val<'a>> {
        Some(match self {
            Self::Unknown => return None,
            Self::Bool(value) => Val::Bool(*value),
            Self::Int(value) => Val::Int(*value),
            Self::Text(text) => Val::Text(text),
            Self::Variable(name) => scope.iter().rev().find(|(other, _)| other == name)?.1.clone(),
            Self::Field(of, field) => Val::of(of.value(scope)?.json()?.as_object()?.get(field)?)?,
            Self::Has(of, field) => Val::Bool(of.value(scope)?.json()?.as_object()?.contains_key(field)),
            Self::Index(of, index) => {
                let (of, Val::Int(index)) = (of.value(scope)?, index.value(scope)?) else { return None };
                of.items()?.nth(usize::try_from(index).ok()?)??
            }
            Self::List(items) => {
                Val::List(items.iter().map(|item| item.value(scope)).collect::<Option<_>>()?)
            }
            Self::Not(of) => Val::Bool(!of.boolean(scope)?),
            Self::And(a, b) => Val::Bool(decided(a, b, false, scope)?),
            Self::Or(a, b) => Val::Bool(decided(a, b, true, scope)?),
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                if condition.boolean(scope)? { yes.value(scope)? } else { no.value(scope)? }
            }
            Self::NotStrictlyFalse(of) => Val::Bool(of.boolean(scope) != Some(false)),
            Self::Compare(comparison, a, b) => {
                Val::Bool(comparison.holds(&a.value(scope)?, &b.value(scope)?)?)
            }
            Self::Add(a, b) => match (a.value(scope)?, b.value(scope)?) {
                (Val::Int(a), Val::Int(b)) => Val::Int(a.checked_add(b)?),
                (Val::List(mut a), Val::List(mut b)) => {
                    a.append(&mut b);
                    Val::List(a)
                }
                _ => return None,
            },
            Self::In(item, of) => {
                let (item, of) = (item.value(scope)?, of.value(scope)?);
                Val::Bool(
                    of.items()?
                        .map(|other| item.equals(&other?))
                        .collect::<Option<Vec<_>>>()?
                        .contains(&true),
                )
            }
            Self::Size(of) => Val::Int(of.value(scope)?.size()?),
            Self::Test(test, a, b) => {
                let (a, b) = (a.text(scope)?, b.text(scope)?);
                Val::Bool(match test {
                    TextTest::Contains => a.contains(b),
                    TextTest::StartsWith => a.starts_with(b),
                    TextTest::EndsWith => a.ends_with(b),
                })
            }
            Self::Matches(of, regex) => Val::Bool(regex.is_match(of.text(scope)?)),
            Self::Fold(fold) => {
                let depth = scope.len();
                let value = fold.value(scope);
                scope.truncate(depth);
                value?
            }
        })
    }
}

/// `a && b` or `a || b`: an error on one side does not matter where the other side decides (CEL, "logical operators").
fn decided<'a>(a: &'a Guard, b: &'a Guard, decisive: bool, scope: &mut Scope<'a>) -> Option<bool> {
    let a = a.boolean(scope);
    if a == Some(decisive) {
        return a;
    }
    let b = b.boolean(scope);
    if b == Some(decisive) { b } else { a.and(b) }
}

impl Fold {
    /// Leaves its variables in scope.
    fn value<'a>(&'a self, scope: &mut Scope<'a>) -> Option<Val<'a>> {
        let range = self.range.value(scope)?;
        let so_far = self.start.value(scope)?;
        let depth = scope.len();
        scope.push((&self.so_far, so_far));
        for item in range.items()? {
            if !self.goes_on.boolean(scope)? {
                break;
            }
            scope.push((&self.item, item?));
            let next = self.step.value(scope)?;
            scope.truncate(depth);
            scope.push((&self.so_far, next));
        }
        self.result.value(scope)
    }
}

impl Comparison {
    /// `None` for what CEL would call an error.
    fn holds(self, a: &Val<'_>, b: &Val<'_>) -> Option<bool> {
        match self {
            Self::Equal => return a.equals(b),
            Self::Unequal => return a.equals(b).map(|equal| !equal),
            _ => {}
        }
        let (Val::Int(a), Val::Int(b)) = (a, b) else { return None };
        Some(match self {
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            _ => a >= b,
        })
    }
}

impl<'a> Val<'a> {
    fn of(json: &'a Value) -> Option<Self> {
        Some(match json {
            Value::Null => return None,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Int(number.as_i64()?),
            Value::String(text) => Self::Text(text),
            Value::Array(_) | Value::Object(_) => Self::Json(json),
        })
    }

    fn json(&self) -> Option<&'a Value> {
        if let Self::Json(json) = self { Some(json) } else { None }
    }

    /// The items of a list, or the keys of a map.
    fn items(&self) -> Option<Box<dyn Iterator<Item = Option<Val<'a>>> + '_>> {
        Some(match self {
            Self::List(items) => Box::new(items.iter().cloned().map(Some)),
            Self::Json(Value::Array(items)) => Box::new(items.iter().map(Val::of)),
            Self::Json(Value::Object(map)) => Box::new(map.keys().map(|key| Some(Val::Text(key)))),
            _ => return None,
        })
    }

    fn size(&self) -> Option<i64> {
        let size = match self {
            Self::Text(text) => text.chars().count(),
            Self::List(items) => items.len(),
            Self::Json(Value::Array(items)) => items.len(),
            Self::Json(Value::Object(map)) => map.len(),
            _ => return None,
        };
        i64::try_from(size).ok()
    }

    /// `None` for values of different types, which CEL refuses to compare.
    fn equals(&self, other: &Val<'_>) -> Option<bool> {
        match (self, other) {
            (Self::Bool(a), Val::Bool(b)) => Some(a == b),
            (Self::Int(a), Val::Int(b)) => Some(a == b),
            (Self::Text(a), Val::Text(b)) => Some(a == b),
            (Self::Json(a), Val::Json(b)) => Some(a == b),
            _ => None,
        }
    }
}
