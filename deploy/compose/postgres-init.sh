#!/bin/sh
# Runs once, on an empty database: the role of the services is no superuser and may not bypass row-level security.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$FASTCHAT_PASSWORD" --username postgres <<'SQL'
CREATE ROLE fastchat LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE fastchat OWNER fastchat;
\connect fastchat
CREATE EXTENSION IF NOT EXISTS vector;
SQL
