//! What a role needs to run an edge, and no more: rows. Days are made and
//! dropped by functions that act as their owner, so that no edge owns a table.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::Unavailable;

/// They make and drop tables.
const OF_DAYS: [&str; 2] = ["usage_make_day(date)", "usage_drop_days(date)"];

/// Grants it to `role`, as the owner of the tables; all of it or nothing.
pub(super) async fn to(role: &str, connection: &mut PgConnection) -> Result<(), Unavailable> {
    let schema = sqlx::query_scalar::<_, String>("SELECT quote_ident(current_schema())")
        .fetch_one(&mut *connection)
        .await?;
    let statements = statements(&quoted(role), &schema);
    // One text of several statements is one transaction.
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(statements)))
        .await?;
    Ok(())
}

fn statements(role: &str, schema: &str) -> String {
    let of_days = OF_DAYS.map(|function| {
        // Named last, pg_temp cannot put a table of the caller's in the way.
        format!(
            "ALTER FUNCTION {function} SECURITY DEFINER SET search_path = {schema}, pg_temp;
             REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC;
             GRANT EXECUTE ON FUNCTION {function} TO {role};"
        )
    });
    // What was audited is added to, and never changed.
    format!(
        "{}
         GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
         REVOKE UPDATE, DELETE ON audit_log FROM {role};
         REVOKE INSERT, UPDATE, DELETE ON _sqlx_migrations FROM {role};",
        of_days.concat()
    )
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
