-- The star schema benchmark (O'Neil, O'Neil, Chen 2009), made of the rows of TPC-H in the same database.

-- name: tables
-- One table of facts and four of dimensions, with primary keys alone.
CREATE SCHEMA ssb;
CREATE TABLE ssb.dates AS
SELECT to_char(d, 'YYYYMMDD')::int AS d_datekey, d::date AS d_date, extract(year FROM d)::int AS d_year,
       to_char(d, 'YYYYMM')::int AS d_yearmonthnum, to_char(d, 'MonYYYY') AS d_yearmonth,
       extract(week FROM d)::int AS d_weeknuminyear
FROM generate_series(timestamp '1992-01-01', timestamp '1998-12-31', interval '1 day') d;
ALTER TABLE ssb.dates ADD PRIMARY KEY (d_datekey);
CREATE TABLE ssb.customer AS
SELECT c_custkey, c_name, c_address, rpad(trim(n_name), 9) || c_custkey % 10 AS c_city, trim(n_name) AS c_nation,
       trim(r_name) AS c_region, c_phone, c_mktsegment
FROM public.customer JOIN nation ON n_nationkey = c_nationkey JOIN region ON r_regionkey = n_regionkey;
ALTER TABLE ssb.customer ADD PRIMARY KEY (c_custkey);
CREATE TABLE ssb.supplier AS
SELECT s_suppkey, s_name, s_address, rpad(trim(n_name), 9) || s_suppkey % 10 AS s_city, trim(n_name) AS s_nation,
       trim(r_name) AS s_region, s_phone
FROM public.supplier JOIN nation ON n_nationkey = s_nationkey JOIN region ON r_regionkey = n_regionkey;
ALTER TABLE ssb.supplier ADD PRIMARY KEY (s_suppkey);
CREATE TABLE ssb.part AS
SELECT p_partkey, p_name, 'MFGR#' || 1 + p_partkey % 5 AS p_mfgr,
       'MFGR#' || 1 + p_partkey % 5 || 1 + p_partkey / 5 % 5 AS p_category,
       'MFGR#' || 1 + p_partkey % 5 || 1 + p_partkey / 5 % 5 || 1 + p_partkey / 25 % 40 AS p_brand1,
       split_part(p_name, ' ', 1) AS p_color, p_type, p_size, p_container
FROM public.part;
ALTER TABLE ssb.part ADD PRIMARY KEY (p_partkey);
CREATE TABLE ssb.lineorder AS
SELECT l_orderkey AS lo_orderkey, l_linenumber AS lo_linenumber, o_custkey AS lo_custkey, l_partkey AS lo_partkey,
       l_suppkey AS lo_suppkey, to_char(o_orderdate, 'YYYYMMDD')::int AS lo_orderdate,
       o_orderpriority AS lo_orderpriority, l_quantity::int AS lo_quantity,
       (l_extendedprice * 100)::int AS lo_extendedprice, (l_discount * 100)::int AS lo_discount,
       (l_extendedprice * (100 - l_discount * 100))::int AS lo_revenue, (l_extendedprice * 60)::int AS lo_supplycost,
       (l_tax * 100)::int AS lo_tax, to_char(l_commitdate, 'YYYYMMDD')::int AS lo_commitdate, l_shipmode AS lo_shipmode
FROM lineitem JOIN orders ON o_orderkey = l_orderkey;
ALTER TABLE ssb.lineorder ADD PRIMARY KEY (lo_orderkey, lo_linenumber);
