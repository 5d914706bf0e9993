mod counting_sort;
