//! What a role needs to run an edge, and no more: rows. Days are made and
//! dropped by functions that act as their owner, so that no edge owns a table.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::Unavailable;

/// What an edge does with each table. It stores and reports usage; of what it
/// has stored it changes sums alone, and of the audit log nothing.
const OF_TABLES: [(&str, &str); 11] = [
    ("_sqlx_migrations", "SELECT"),
    ("audit_log", "SELECT, INSERT"),
    ("key_totals", "SELECT, INSERT, UPDATE"),
    ("refusals", "SELECT, INSERT, UPDATE, DELETE"),
    ("usage_dropped", "SELECT, DELETE"),
    ("usage_events", "SELECT, INSERT"),
    ("usage_horizon", "SELECT"),
    ("usage_hourly", "SELECT, INSERT, UPDATE"),
    ("usage_instances", "SELECT, INSERT, UPDATE"),
    ("usage_quarantine", "SELECT, INSERT, DELETE"),
    ("usage_writers", "SELECT, INSERT, UPDATE"),
];

/// They make and drop tables, as their owner.
const OF_DAYS: [&str; 2] = ["usage_make_day(date)", "usage_drop_days(date)"];

/// Of two that grant at once, one would fail.
const ONE_AT_A_TIME: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('cypheron-edge grants', 0));";

/// Days that somebody was granted anything on by itself.
const GRANTED_DAYS: &str = "SELECT format('%I.%I', nspname, relname)
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = inhrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE inhparent = 'usage_events'::regclass AND relacl IS NOT NULL";

/// Those who may drop days, when it is for us to grant that.
const GRANTED_ROLES: &str = "SELECT DISTINCT pg_get_userbyid(acl.grantee)::text
    FROM pg_proc, aclexplode(proacl) AS acl
    WHERE pg_proc.oid = to_regprocedure('usage_drop_days(date)')
        AND acl.grantee NOT IN (0::oid, proowner)
        AND pg_has_role(proowner, 'USAGE')";

/// Grants it to `role`, as the owner of the tables, and takes what else it had
/// been granted on them; all of it or nothing.
pub(super) async fn to(role: &str, connection: &mut PgConnection) -> Result<(), Unavailable> {
    let (schema, may_create) = sqlx::query_as::<_, (String, bool)>(
        "SELECT quote_ident(current_schema()),
            has_schema_privilege($1::name, current_schema(), 'CREATE')",
    )
    .bind(role)
    .fetch_one(&mut *connection)
    .await?;
    if may_create {
        // What it made there, the functions of days might call as their owner.
        return Err(Unavailable(format!(
            "the role {role} may create objects in the schema {schema}, which an edge must not: \
             `REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC`, or from the role, and grant again"
        )));
    }
    let days: Vec<String> = sqlx::query_scalar(GRANTED_DAYS)
        .fetch_all(&mut *connection)
        .await?;
    let statements = statements(&quoted(role), &schema, &days);
    // One text of several statements is one transaction.
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(statements)))
        .await?;
    Ok(())
}

/// Grants what edges need now to every role that was let in before.
pub(super) async fn again(connection: &mut PgConnection) -> Result<(), Unavailable> {
    let roles: Vec<String> = sqlx::query_scalar(GRANTED_ROLES)
        .fetch_all(&mut *connection)
        .await?;
    for role in roles {
        to(&role, connection).await?;
    }
    Ok(())
}

fn statements(role: &str, schema: &str, days: &[String]) -> String {
    let of_tables = OF_TABLES.map(|(table, rights)| {
        format!("REVOKE ALL ON {table} FROM {role}; GRANT {rights} ON {table} TO {role};")
    });
    let of_days =
        OF_DAYS.map(|function| format!("GRANT EXECUTE ON FUNCTION {function} TO {role};"));
    let days = days
        .iter()
        .map(|day| format!("REVOKE ALL ON {day} FROM {role};"));
    format!(
        "{ONE_AT_A_TIME} GRANT USAGE ON SCHEMA {schema} TO {role}; {}{}{}",
        of_tables.concat(),
        of_days.concat(),
        days.collect::<String>(),
    )
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
