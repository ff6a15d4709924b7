//! What every mistake in a policy looks like, word for word.

use super::{
    show_errors,
    testing::{gitlab, load, route},
};

/// One test: the name is the claim, then the policies, then all that is shown.
macro_rules! shows {
    ($($name:ident: $text:expr, $shown:expr;)*) => {
        $(#[test]
        fn $name() {
            let errors = load($text.trim_start(), &[route("portal"), route("api")], &[gitlab("gitlab")]);
            assert_eq!(show_errors(&errors.err().unwrap_or_default(), false), $shown.trim_start());
        })*
    };
}

shows! {
    a_missing_semicolon_is_shown: r#"
@id("a")
permit (principal, action, resource)
"#, r#"
error: unexpected end of input
 --> test.cedar:2:37
  |
2 | permit (principal, action, resource)
  |                                     ^ expected `;` or identifier"#;

    a_missing_comma_is_shown: r#"
@id("a")
permit (principal, action resource);
"#, r#"
error: unexpected token `resource`
 --> test.cedar:2:27
  |
2 | permit (principal, action resource);
  |                           ^^^^^^^^ expected `!=`, `)`, `,`, `:`, `<`, `<=`, `==`, `>`, `>=`, `in`, or `is`"#;

    an_unknown_attribute_is_shown: r#"
@id("a")
permit (principal is User, action, resource)
when { principal.emial == "x" };
"#, r#"
error: attribute `emial` on entity type `User` not found
 --> test.cedar:3:8
  |
3 | when { principal.emial == "x" };
  |        ^^^^^^^^^^^^^^^
  |
  = help: did you mean `email`?"#;

    an_attribute_that_may_be_absent_is_shown: r#"
@id("a")
permit (principal is User, action, resource)
when { principal.email == "x" };
"#, r#"
error: unable to guarantee safety of access to optional attribute `email` on entity type `User`
 --> test.cedar:3:8
  |
3 | when { principal.email == "x" };
  |        ^^^^^^^^^^^^^^^
  |
  = help: try testing for the attribute's presence with `e has email && ..`"#;

    an_unknown_attribute_of_the_context_is_shown: r#"
@id("a")
permit (principal, action, resource)
when { context.pth == "/" };
"#, r#"
error: attribute `pth` in context not found
 --> test.cedar:3:8
  |
3 | when { context.pth == "/" };
  |        ^^^^^^^^^^^
  |
  = help: did you mean `path`?"#;

    an_unknown_entity_type_is_shown: r#"
@id("a")
permit (principal is Usr, action, resource);
"#, r#"
error: unrecognized entity type `Usr`
 --> test.cedar:2:22
  |
2 | permit (principal is Usr, action, resource);
  |                      ^^^
  |
  = help: did you mean `User`?"#;

    an_unknown_action_is_shown: r#"
@id("a")
permit (principal, action == Action::"GTE", resource);
"#, r#"
error: unrecognized action `Action::"GTE"`
 --> test.cedar:2:30
  |
2 | permit (principal, action == Action::"GTE", resource);
  |                              ^^^^^^^^^^^^^
  |
  = help: did you mean `Action::"GET"`?"#;

    a_method_in_lower_case_is_shown: r#"
@id("a")
permit (principal, action == Action::"get", resource);
"#, r#"
error: unrecognized action `Action::"get"`
 --> test.cedar:2:30
  |
2 | permit (principal, action == Action::"get", resource);
  |                              ^^^^^^^^^^^^^
  |
  = help: did you mean `Action::"GET"`?"#;

    another_method_in_lower_case_is_shown: r#"
@id("a")
permit (principal, action in [Action::"GET", Action::"delete"], resource);
"#, r#"
error: unrecognized action `Action::"delete"`
 --> test.cedar:2:46
  |
2 | permit (principal, action in [Action::"GET", Action::"delete"], resource);
  |                                              ^^^^^^^^^^^^^^^^
  |
  = help: did you mean `Action::"DELETE"`?"#;

    a_group_of_actions_is_shown: r#"
@id("a")
permit (principal, action == Action::"read", resource);
"#, r#"
error: `read` is a group of actions
 --> test.cedar:2:30
  |
2 | permit (principal, action == Action::"read", resource);
  |                              ^^^^^^^^^^^^^^
  |
  = help: write `action in Action::"read"`"#;

    a_group_of_actions_in_a_condition_is_shown: r#"
@id("a")
permit (principal, action, resource)
when { action == Action::"write" };
"#, r#"
error: `write` is a group of actions
 --> test.cedar:3:18
  |
3 | when { action == Action::"write" };
  |                  ^^^^^^^^^^^^^^^
  |
  = help: write `action in Action::"write"`"#;

    a_group_that_is_taken_for_somebody_is_shown: r#"
@id("a")
permit (principal == Group::"gitlab:acme", action, resource);
"#, r#"
error: `Group::"gitlab:acme"` never asks for anything: it is what a `User` is in
 --> test.cedar:2:22
  |
2 | permit (principal == Group::"gitlab:acme", action, resource);
  |                      ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write `principal is User in Group::"gitlab:acme"`"#;

    a_field_that_no_rule_declares_is_shown: r#"
@id("a")
forbid (principal, action, resource)
when { context.body has owner && context.body.owner == "x" };
"#, r#"
error: `context.body.owner` is never there
 --> test.cedar:3:25
  |
3 | when { context.body has owner && context.body.owner == "x" };
  |                         ^^^^^
  |
  = help: declare it in a rule of `body_fields`, for a request that this policy is about"#;

    a_field_that_is_not_asked_for_first_is_shown_once: r#"
@id("a")
forbid (principal, action, resource)
when { context.body.owner == "x" };
"#, r#"
error: `context.body.owner` is never there
 --> test.cedar:3:21
  |
3 | when { context.body.owner == "x" };
  |                     ^^^^^
  |
  = help: declare it in a rule of `body_fields`, for a request that this policy is about"#;

    an_unknown_route_is_shown: r#"
@id("a")
permit (principal is User, action, resource == Route::"portl");
"#, r#"
error: no route is named `portl`
 --> test.cedar:2:48
  |
2 | permit (principal is User, action, resource == Route::"portl");
  |                                                ^^^^^^^^^^^^^^
  |
  = help: did you mean `portal`?"#;

    an_unknown_provider_is_shown: r#"
@id("a")
permit (principal is User in Group::"gitlba:acme", action, resource);
"#, r#"
error: no provider is named `gitlba`
 --> test.cedar:2:30
  |
2 | permit (principal is User in Group::"gitlba:acme", action, resource);
  |                              ^^^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `gitlab`?"#;

    a_wrong_type_is_shown: r#"
@id("a")
permit (principal is User, action, resource)
when { principal.login == 7 };
"#, r#"
error: the types Long and String are not compatible
 --> test.cedar:3:8
  |
3 | when { principal.login == 7 };
  |        ^^^^^^^^^^^^^^^^^^^^
  |
  = help: both operands to a `==` expression must have compatible types. Types must be exactly equal to be compatible"#;

    a_condition_that_is_no_condition_is_shown: r#"
@id("a")
permit (principal is User, action, resource)
when { principal.login };
"#, r#"
error: unexpected type: expected Bool but saw String
 --> test.cedar:3:8
  |
3 | when { principal.login };
  |        ^^^^^^^^^^^^^^^"#;

    an_impossible_condition_is_shown: r#"
@id("a")
permit (principal is User, action, resource)
when { principal is Job };
"#, r#"
error: policy is impossible: the policy expression evaluates to false for all valid requests
 --> test.cedar:1:1
  |
1 | @id("a")
  | ^^^^^^^^
  |
  = help: a condition never holds, or it is about another type than the scope"#;

    a_missing_id_is_shown: r#"
@reason("For all.")
permit (principal, action, resource);
"#, r#"
error: the policy has no `@id`, by which audit records name it
 --> test.cedar:1:1
  |
1 | @reason("For all.")
  | ^^^^^^^
  |
  = help: write `@id("…")` above it"#;

    a_double_id_is_shown_with_the_other_place: r#"
@id("a")
permit (principal is User, action, resource);

@id("a")
forbid (principal is Job, action, resource);
"#, r#"
error: `@id("a")` is also the id of another policy
 --> test.cedar:4:1
  |
4 | @id("a")
  | ^^^
  |
  = help: choose another id
note: the other policy is here
 --> test.cedar:1:1
  |
1 | @id("a")
  | ---"#;

    an_open_scope_is_shown: r#"
@id("a")
permit (principal in Group::"gitlab:acme", action, resource);
"#, r#"
error: the scope names no principal type
 --> test.cedar:2:22
  |
2 | permit (principal in Group::"gitlab:acme", action, resource);
  |                      ^^^^^^^^^^^^^^^^^^^^
  |
  = help: write `principal is User in Group::"gitlab:acme"`"#;

    a_forbid_of_one_spelling_is_shown: r#"
@id("a")
forbid (principal, action, resource)
when { context.path like "/admin/*" };
"#, r#"
error: a forbid on route `portal`, which is not `paths: exact`, tests `context.path`: another spelling gets past it
 --> test.cedar:3:8
  |
3 | when { context.path like "/admin/*" };
  |        ^^^^^^^^^^^^
  |
  = help: test `context.path_folded`"#;

    a_permit_of_every_spelling_is_shown: r#"
@id("a")
permit (principal, action, resource)
when { context.path_folded == "/a" };
"#, r#"
error: a permit on route `portal`, which is not `paths: exact`, tests `context.path_folded`: another spelling is let in
 --> test.cedar:3:8
  |
3 | when { context.path_folded == "/a" };
  |        ^^^^^^^^^^^^^^^^^^^
  |
  = help: test `context.path`"#;

    a_template_is_shown: r#"
@id("a")
permit (principal == ?principal, action, resource);
"#, r#"
error: templates are not supported
 --> test.cedar:1:1
  |
1 | @id("a")
  | ^^^
  |
  = help: write the entity instead of `?principal` or `?resource`"#;
}
