module bdw-fed/starter

go 1.19
