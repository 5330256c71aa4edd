-- The 13 questions of the star schema benchmark, each with one set of parameters of our own choice.

-- name: year_with_small_discounts
-- What a year's small discounts cost.
SELECT sum(lo_extendedprice * lo_discount) FROM ssb.lineorder, ssb.dates
WHERE lo_orderdate = d_datekey AND d_year = 1994 AND lo_discount BETWEEN 2 AND 4 AND lo_quantity < 24;

-- name: month_with_larger_discounts
-- The same of a month, and larger orders.
SELECT sum(lo_extendedprice * lo_discount) FROM ssb.lineorder, ssb.dates
WHERE lo_orderdate = d_datekey AND d_yearmonthnum = 199505 AND lo_discount BETWEEN 5 AND 7 AND lo_quantity BETWEEN 27 AND 36;

-- name: week_with_larger_discounts
-- The same of a week.
SELECT sum(lo_extendedprice * lo_discount) FROM ssb.lineorder, ssb.dates
WHERE lo_orderdate = d_datekey AND d_weeknuminyear = 11 AND d_year = 1996 AND lo_discount BETWEEN 4 AND 6
  AND lo_quantity BETWEEN 25 AND 34;

-- name: brands_of_a_category
-- Revenue of a category's brands from a region's suppliers.
SELECT sum(lo_revenue), d_year, p_brand1 FROM ssb.lineorder, ssb.dates, ssb.part, ssb.supplier
WHERE lo_orderdate = d_datekey AND lo_partkey = p_partkey AND lo_suppkey = s_suppkey AND p_category = 'MFGR#23' AND s_region = 'EUROPE'
GROUP BY d_year, p_brand1 ORDER BY d_year, p_brand1;

-- name: some_brands
-- Revenue of eight brands.
SELECT sum(lo_revenue), d_year, p_brand1 FROM ssb.lineorder, ssb.dates, ssb.part, ssb.supplier
WHERE lo_orderdate = d_datekey AND lo_partkey = p_partkey AND lo_suppkey = s_suppkey AND p_brand1 BETWEEN 'MFGR#3311' AND 'MFGR#3318' AND s_region = 'AFRICA'
GROUP BY d_year, p_brand1 ORDER BY d_year, p_brand1;

-- name: one_brand
-- Revenue of one brand.
SELECT sum(lo_revenue), d_year, p_brand1 FROM ssb.lineorder, ssb.dates, ssb.part, ssb.supplier
WHERE lo_orderdate = d_datekey AND lo_partkey = p_partkey AND lo_suppkey = s_suppkey AND p_brand1 = 'MFGR#4124' AND s_region = 'ASIA'
GROUP BY d_year, p_brand1 ORDER BY d_year, p_brand1;

-- name: trade_in_a_region
-- Trade between the nations of a region.
SELECT c_nation, s_nation, d_year, sum(lo_revenue) AS revenue FROM ssb.customer, ssb.lineorder, ssb.supplier, ssb.dates
WHERE lo_custkey = c_custkey AND lo_suppkey = s_suppkey AND lo_orderdate = d_datekey AND c_region = 'EUROPE' AND s_region = 'EUROPE' AND d_year BETWEEN 1993 AND 1996
GROUP BY c_nation, s_nation, d_year ORDER BY d_year, revenue DESC;

-- name: trade_in_a_nation
-- Trade between the cities of a nation.
SELECT c_city, s_city, d_year, sum(lo_revenue) AS revenue FROM ssb.customer, ssb.lineorder, ssb.supplier, ssb.dates
WHERE lo_custkey = c_custkey AND lo_suppkey = s_suppkey AND lo_orderdate = d_datekey AND c_nation = 'FRANCE' AND s_nation = 'FRANCE' AND d_year BETWEEN 1993 AND 1996
GROUP BY c_city, s_city, d_year ORDER BY d_year, revenue DESC;

-- name: trade_of_two_cities
-- Trade between two cities.
SELECT c_city, s_city, d_year, sum(lo_revenue) AS revenue FROM ssb.customer, ssb.lineorder, ssb.supplier, ssb.dates
WHERE lo_custkey = c_custkey AND lo_suppkey = s_suppkey AND lo_orderdate = d_datekey AND c_city IN ('PERU     3', 'PERU     7') AND s_city IN ('PERU     3', 'PERU     7')
  AND d_year BETWEEN 1993 AND 1996
GROUP BY c_city, s_city, d_year ORDER BY d_year, revenue DESC;

-- name: trade_of_two_cities_in_a_month
-- The same in a month.
SELECT c_city, s_city, d_year, sum(lo_revenue) AS revenue FROM ssb.customer, ssb.lineorder, ssb.supplier, ssb.dates
WHERE lo_custkey = c_custkey AND lo_suppkey = s_suppkey AND lo_orderdate = d_datekey AND c_city IN ('PERU     3', 'PERU     7') AND s_city IN ('PERU     3', 'PERU     7')
  AND d_yearmonth = 'Aug1995'
GROUP BY c_city, s_city, d_year ORDER BY d_year, revenue DESC;

-- name: profit_in_a_region
-- Profit by year and nation.
SELECT d_year, c_nation, sum(lo_revenue - lo_supplycost) AS profit
FROM ssb.dates, ssb.customer, ssb.supplier, ssb.part, ssb.lineorder
WHERE lo_custkey = c_custkey AND lo_suppkey = s_suppkey AND lo_partkey = p_partkey AND lo_orderdate = d_datekey
  AND c_region = 'ASIA' AND s_region = 'ASIA' AND p_mfgr IN ('MFGR#3', 'MFGR#4')
GROUP BY d_year, c_nation ORDER BY d_year, c_nation;

-- name: profit_of_two_years
-- Profit of two years by nation and category.
SELECT d_year, s_nation, p_category, sum(lo_revenue - lo_supplycost) AS profit
FROM ssb.dates, ssb.customer, ssb.supplier, ssb.part, ssb.lineorder
WHERE lo_custkey = c_custkey AND lo_suppkey = s_suppkey AND lo_partkey = p_partkey AND lo_orderdate = d_datekey
  AND c_region = 'ASIA' AND s_region = 'ASIA'
  AND d_year IN (1995, 1996) AND p_mfgr IN ('MFGR#3', 'MFGR#4')
GROUP BY d_year, s_nation, p_category ORDER BY d_year, s_nation, p_category;

-- name: profit_of_a_category
-- Profit of two years by city and brand.
SELECT d_year, s_city, p_brand1, sum(lo_revenue - lo_supplycost) AS profit
FROM ssb.dates, ssb.customer, ssb.supplier, ssb.part, ssb.lineorder
WHERE lo_custkey = c_custkey AND lo_suppkey = s_suppkey AND lo_partkey = p_partkey AND lo_orderdate = d_datekey
  AND c_region = 'ASIA' AND s_nation = 'CHINA'
  AND d_year IN (1995, 1996) AND p_category = 'MFGR#35'
GROUP BY d_year, s_city, p_brand1 ORDER BY d_year, s_city, p_brand1;
